"""Reading `[notify]`: how operators are told of trouble."""

from pipeline.settings.checks import wrong_address
from pipeline.settings.secrets import content
from pipeline.settings.sections import notify
from pipeline.settings.values import Notify


def read_notify(told: notify, problems: list[str]) -> Notify:
    """The section, its secrets read; what is wrong is added to `problems`."""
    receivers = tuple(word.strip() for word in told.mail_to.split(",") if word.strip())
    password = (
        content(told.smtp_password_file, "[notify] smtp_password_file", problems) if told.smtp_password_file else ""
    )
    webhook = content(told.webhook_url_file, "[notify] webhook_url_file", problems) if told.webhook_url_file else ""
    wrong = wrong_address(webhook) if webhook else ""
    addresses = [told.mail_from, *receivers]
    rules = [
        (
            not told.smtp_host or (receivers and all("@" in one and one.isprintable() for one in addresses)),
            "[notify] mail_from and mail_to: with smtp_host, both are addresses",
        ),
        (bool(password) == bool(told.smtp_user), "[notify] smtp_user and smtp_password_file: one is set, one is not"),
        (
            not password or told.smtp_security != "none",
            "[notify] smtp_security is none: a password is sent over a protected connection only",
        ),
        (not wrong, f"[notify] webhook_url_file: what it holds {wrong}"),
        (told.interval_seconds >= 1, "[notify] interval_seconds is less than 1"),
        (told.expiry_hours >= 1, "[notify] expiry_hours is less than 1"),
        (-1 <= told.digest_hour <= 23, "[notify] digest_hour is not -1 to 23"),
    ]
    problems += [text for holds, text in rules if not holds]
    return Notify(
        smtp_host=told.smtp_host,
        smtp_port=told.smtp_port,
        smtp_security=told.smtp_security,
        smtp_user=told.smtp_user,
        smtp_password=password,
        mail_from=told.mail_from,
        mail_to=receivers,
        webhook_url=webhook,
        webhook_format=told.webhook_format,
        interval_seconds=told.interval_seconds,
        patience=told.patience,
        expiry_hours=told.expiry_hours,
        digest_hour=told.digest_hour,
    )
