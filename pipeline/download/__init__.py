"""Download: one object of S3, whole, pinned and verified, into one file. Touches S3 and the staging disk.

    {name}.part      preallocated; ranges are written where they belong, by several connections at once
    {name}.journal   which ranges are there, with their digests; a later try re-hashes these and fetches only the rest;
                     and what S3 said of the whole, for `prove`
    {name}           appears last, when every range is there and the whole is what S3 says it has

`plan` chooses ranges and how the whole is verified, `journal` remembers, `connection` and `transfer` bring the bytes,
`fetch` joins them.
"""

from typing import TYPE_CHECKING

from pipeline.download.fetch_options import Bandwidth, Fetched, FetchOptions
from pipeline.download.plan import Level, Verify
from pipeline.foundation.faces import later

if TYPE_CHECKING:
    from pipeline.download.fetch import fetch, prove, settle
    from pipeline.download.local import adopt, identify_local
    from pipeline.download.remote import identify, look
else:
    __getattr__ = later(__name__, fetch="fetch prove settle", local="adopt identify_local", remote="identify look")
