"""Luigi without what it takes where it finds it, though nobody here uses it: requests for its calls of luigid, which
`lanes.builds` makes itself, and tornado for waits of coroutines. A third of its import, and of its memory in each lane.

The parameters of a class are looked up once, not ninety times a work: no class gets any after it was made.
"""

import sys
from functools import cache

_HIDDEN = [name for name in ("requests", "requests_unixsocket", "tornado") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_HIDDEN))  # type: ignore[arg-type]  # None: Python takes such a module for not there
try:
    import luigi
    import luigi.rpc
    import luigi.scheduler
    import luigi.task_register
    import luigi.worker
finally:
    for _name in _HIDDEN:
        del sys.modules[_name]

luigi.Task.get_params = classmethod(cache(luigi.Task.get_params.__func__))  # type: ignore[arg-type]  # the stub of cache takes no class

__all__ = ["luigi"]
