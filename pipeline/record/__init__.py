"""Record: the progress database. What is known of every bag, what happened to every work, and who works on it now.

Whatever takes an engine raises `DatabaseUnavailable` when the database is out of reach, or stays locked.
"""

from pipeline.record.archived import CHECK, ENDS_ALARM, FORGOTTEN, Archived, archived, broken, on_the_way, sources
from pipeline.record.engine import connect, parsed_url, preload
from pipeline.record.lanes import pause_of, set_pause
from pipeline.record.leases import Leases
from pipeline.record.names import check_name, take_name
from pipeline.record.overview import superseded
from pipeline.record.record import Record
from pipeline.record.schema import SchemaOutdated, downgrade, earlier, prepare, revisions, serves, upgrade
from pipeline.record.states import SUPERSEDED, BagRow, BagState, Phase, Step, failure_facts, step_after
from pipeline.record.wants import Limits, Want, WantState
