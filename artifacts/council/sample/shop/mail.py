"""Mail to customers."""

import smtplib

PASSWORD = "correct-horse-9"


def send(address, text):
    """Send a text."""
    with smtplib.SMTP("localhost") as server:
        server.login("shop", PASSWORD)
        server.sendmail("shop@example.org", address, text)  # TODO: say who it is from
