"""Sending a notification: by e-mail, and to a webhook. What is told of a failure holds no secret."""

import http.client
import json
import re
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import urlsplit

from pipeline.foundation.errors import TransientError
from pipeline.settings import Notify

_PATIENCE_SECONDS = 20
# What an address goes on after: a colon, unless of a time; two slashes; a backslash; a dot before a letter or one of
# several numbers (IDNA takes three others for dots); an @. Our own program's name stays.
_DOT = "[.\u3002\uff0e\uff61]"
_LINKS = re.compile(
    rf"(?<!\bs3):(?=[^\s\d])|(?<!\d):(?=\d)|(?<!\bs3:)/(?=/)|\\(?=\S)|(?<!\brun_pipeline){_DOT}(?=[^\W\d_]|\d+{_DOT})|@"
)


class NotDelivered(TransientError):
    """A notification did not reach its channel; it is tried again."""


@dataclass(frozen=True)
class Note:
    """What is to be told: a line, a text for people, and the same as facts for programs."""

    subject: str
    text: str
    facts: Mapping[str, Any]


def inert(text: str) -> str:
    """Names from outside, so that no mail reader or chat makes a link of them, or calls somebody.

    Chats look for addresses on their own servers, whatever they are asked (Slack ignores `parse` for webhooks), and
    `.zip` is a domain: `W1.bag.zip` would lead to whoever bought `bag.zip`. s3:// leads nowhere in a browser.
    """
    return _LINKS.sub(lambda found: f"[{found[0]}]", text).replace("](", "] (")


def channels(chosen: Notify) -> list[str]:
    """The channels that are set."""
    return [name for name, there in (("mail", chosen.smtp_host), ("webhook", chosen.webhook_url)) if there]


def send(chosen: Notify, channel: str, note: Note) -> None:
    """Send it.

    Raises:
        NotDelivered: it did not arrive.
    """
    if channel == "mail":
        _mail(chosen, note)
    else:
        _post(chosen, note)


def _mail(chosen: Notify, note: Note) -> None:
    message = EmailMessage()
    message["Subject"] = note.subject
    message["From"] = chosen.mail_from
    message["To"] = ", ".join(chosen.mail_to)
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="bag-pipeline.invalid")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine is to answer
    message.set_content(note.text)
    place = f"{chosen.smtp_host}:{chosen.smtp_port}"
    try:
        trust = ssl.create_default_context()
        if chosen.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                chosen.smtp_host, chosen.smtp_port, timeout=_PATIENCE_SECONDS, context=trust
            )
        else:
            server = smtplib.SMTP(chosen.smtp_host, chosen.smtp_port, timeout=_PATIENCE_SECONDS)
        with server:
            if chosen.smtp_security == "starttls":
                server.starttls(context=trust)
            if chosen.smtp_user:
                server.login(chosen.smtp_user, chosen.smtp_password)
            server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        # The server's own words are left out: they may repeat what it was told.
        code = getattr(error, "smtp_code", "") or getattr(error, "strerror", "") or ""
        raise NotDelivered(f"no mail through {place}: {type(error).__name__} {code}".rstrip()) from error


def _post(chosen: Notify, note: Note) -> None:
    # Slack obeys <!channel> and <@name>; these three are what it wants escaped.
    text = note.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body: dict[str, Any] = {"text": f"*{note.subject}*\n{text}"}
    if chosen.webhook_format == "json":
        body = {"subject": note.subject, "text": note.text, **note.facts}
    host = urlsplit(chosen.webhook_url).hostname or "?"  # all the rest of a webhook's address is its password
    request = urllib.request.Request(  # noqa: S310  # settings allow http(s) only
        chosen.webhook_url,
        data=json.dumps(body, ensure_ascii=False, default=str).encode(),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS):  # noqa: S310  # as above
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise NotDelivered(f"the webhook at {host} answered {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotDelivered(f"the webhook at {host} does not answer: {type(error).__name__}") from None
