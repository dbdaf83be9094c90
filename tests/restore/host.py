"""`python -m tests.restore.host URL JSON`: a host of the line in a process of its own, which may be killed.

It does what lanes do, but for the bytes: asks S3 and looks after what was asked, and brings home what is announced. The
JSON is the settings of `[restore]`, and `turns`: after how many it ends; 0: never.
"""

import json
import sys
import time

from pipeline import settings
from pipeline.tasks import context
from pipeline.tasks.restoring import tend
from tests.world.cold_line import bring_home, with_source

if __name__ == "__main__":
    chosen = json.loads(sys.argv[2])
    turns = chosen.pop("turns", 0)
    here = context.Site(with_source(settings.load(), sys.argv[1], **chosen))
    done = 0
    while not turns or done < turns:
        tend(here)
        bring_home(here, most=8)
        done += 1
        time.sleep(0.2)
