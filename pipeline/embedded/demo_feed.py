"""`python -m pipeline.embedded.demo_feed URL`: sample bags for workers elsewhere, restored by the moto at that URL.

The compose stack's profile `demo` runs it; the workers there do the rest.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.embedded import demo, stack
from pipeline.foundation import aws, start
from pipeline.foundation.arguments import positive, size
from pipeline.operations import show


def main(arguments: Sequence[str]) -> int:
    """Make bucket and queues, and have the bags restored; each of them is announced by S3 itself."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.embedded.demo_feed", description=__doc__)
    parser.add_argument("url", metavar="URL", help="where moto answers")
    parser.add_argument("--bags", type=positive, default=6, metavar="N", help="how many, one of them corrupt")
    parser.add_argument("--size", type=size, default=2 << 20, metavar="SIZE", help="of each work: 500k, 2M (default)")
    options = parser.parse_args(arguments)
    out = show.console()
    with stack.credentials(), tempfile.TemporaryDirectory() as folder:
        s3 = aws.s3_client(region="us-east-1", endpoint_url=options.url)
        sqs = aws.sqs_client(region="us-east-1", endpoint_url=options.url)
        stack.set_up_aws(s3, sqs, bucket=stack.BUCKET, queue=stack.QUEUE, dead_letters=stack.DEAD_LETTERS)
        if s3.list_objects_v2(Bucket=stack.BUCKET)["KeyCount"]:
            out.print("the bags were put before; after a restart of moto they will be put again")
            return 0
        zips = demo.make_bags(out, Path(folder), bags=options.bags, size_bytes=options.size)
        demo.restore(out, zips, s3=s3, moto_url=options.url)
    return 0


if __name__ == "__main__":
    start.use_utf8()
    sys.exit(main(sys.argv[1:]))
