"""Replicate: a second copy of an archived work, sent to a bucket and proved there."""

from pipeline.replicate.bag_stream import Content, content
from pipeline.replicate.copies import CopyVerdict, Replicated, key_of, look, replicate, see_rights
from pipeline.replicate.replica import Replica
from pipeline.replicate.tags import tag_files
from pipeline.replicate.upload import abandon, requests, sent_bytes, unfinished
