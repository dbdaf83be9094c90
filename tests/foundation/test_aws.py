"""What the errors of S3 and SQS mean here."""

import botocore.exceptions
import pytest

from pipeline.foundation import aws
from pipeline.foundation.errors import (
    AccessDenied,
    CredentialsExpired,
    NotRestored,
    ObjectGone,
    ObjectReplaced,
    PermanentError,
    PipelineError,
    StorageUnreachable,
    TransientError,
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("SlowDown", StorageUnreachable),
        ("ServiceUnavailable", StorageUnreachable),
        ("InternalError", StorageUnreachable),
        ("RequestTimeout", StorageUnreachable),
        ("ThrottlingException", StorageUnreachable),
        ("AccessDenied", AccessDenied),
        ("ExpiredToken", CredentialsExpired),
        ("RequestExpired", CredentialsExpired),
        ("InvalidAccessKeyId", AccessDenied),
        ("InvalidToken", AccessDenied),
        ("RequestTimeTooSkewed", StorageUnreachable),
        ("InvalidObjectState", NotRestored),
        ("NoSuchKey", ObjectGone),
        ("404", ObjectGone),
        ("PreconditionFailed", ObjectReplaced),
        ("412", ObjectReplaced),
    ],
)
def test_each_answer_of_the_service_has_its_name(code: str, kind: type[PipelineError]) -> None:
    error = botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "m"}}, "GetObject")

    named = aws.translated(error, "download of s3://b/k", work_rid="W1")

    assert type(named) is kind
    assert str(named).startswith("W1: download of s3://b/k")


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"),
        botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        ConnectionResetError("reset"),
        TimeoutError("time out"),
    ],
)
def test_whatever_the_network_does_may_pass_later(error: Exception) -> None:
    assert isinstance(aws.translated(error, "x"), StorageUnreachable)


def test_missing_credentials_wait_for_an_operator_and_are_not_the_bag_s_fault() -> None:
    named = aws.translated(botocore.exceptions.NoCredentialsError(), "x")

    assert isinstance(named, AccessDenied)
    assert isinstance(named, TransientError)
    assert not isinstance(named, PermanentError)
    assert "put the credentials" in named.by_hand


@pytest.mark.parametrize("code", ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"])
def test_a_queue_that_is_not_there_leads_to_its_settings(code: str) -> None:
    error = botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "m"}}, "GetQueueUrl")

    named = aws.translated(error, "queue Q of source s")

    assert isinstance(named, StorageUnreachable)
    assert str(named).startswith("queue Q of source s: there is no such queue; to do: look at queue, region")


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(AccessDenied, match="no-such-profile"):
        aws.s3_client(region="us-east-1", profile="no-such-profile")
