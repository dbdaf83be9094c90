"""Settings: sections of Luigi's own `luigi.cfg`, each value overridable by an environment variable.

A setting `script` of the section `[sync]` is overridden by `PIPELINE_SYNC_SCRIPT`; one of `[source fpl]` by
`PIPELINE_SOURCE_FPL_…`. `load` checks everything at once and returns plain frozen values, so nothing below this module
knows where a setting came from. `PIPELINE_ENV` (`dev` or `prod`) chooses the profile of defaults.

`.env` and `LUIGI_CONFIG_PATH` are seen to by `run_pipeline.py`, before luigi is imported.
"""

from pipeline.replicate import Replica
from pipeline.settings.loading import Settings, load
from pipeline.settings.production import missing_archive
from pipeline.settings.receivers import Callback
from pipeline.settings.sections import Folder, Notify, Source, WhenDone
