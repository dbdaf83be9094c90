"""Record: the progress database. What is known of every bag, what happened to every work, and who works on it now."""

from pipeline.steps.record.archived import CHECK, ENDS_ALARM, FORGOTTEN, Archived, archived, broken, on_the_way
from pipeline.steps.record.engine import connect, parsed_url, preload
from pipeline.steps.record.leases import Leases
from pipeline.steps.record.names import check_name, take_name
from pipeline.steps.record.pauses import pause_of, set_pause
from pipeline.steps.record.record import Record
from pipeline.steps.record.schema import SchemaOutdated, downgrade, earlier, prepare, revisions, upgrade
from pipeline.steps.record.superseded import SUPERSEDED, superseded
from pipeline.steps.record.words import BagRow, BagState, Phase, failure_facts, step_after
