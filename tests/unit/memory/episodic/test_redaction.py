"""What is blacked out of a text before it is kept, and what is left alone. No secret here was ever one."""

import random
import string
from base64 import b64encode, urlsafe_b64encode

import pytest

from apxm.memory.episodic.redaction import BLACK, Redactor

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq\nc2VjcmV0\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
HITS = [
    ("key sk-abcdefghijklmnop1234 end", "abcdefghijklmnop1234"),
    ("sk-proj-AbCd_efgh-1234567890abcdef", "1234567890abcdef"),
    ("sk-ant-api03-AAAAbbbbCCCC1111-dddd", "AAAAbbbbCCCC1111"),
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "4eC39HqLyjWDarjtT1zdp7dc"),
    ("token ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c"),
    ("github_pat_11ABCDEFG0123456789_abcdefghijk", "11ABCDEFG0"),
    ("glpat-abcDEF1234567890abcd", "abcDEF123"),
    ("xoxb-123456789012-abcdefABCDEF", "123456789012"),
    ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    ("id=ASIAIOSFODNN7EXAMPLE;", "IOSFODNN7"),
    ("AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY", "9tSrke72"),
    ("hf_abcdefghijklmnopqrstuv12345", "abcdefghijkl"),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghij"),
    ("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", "TwL2iGABf9"),
    (f"cookie is {JWT}.", "dozjgNryP4J3"),
    ("Authorization: Bearer abcdef0123456789abcdef", "abcdef0123456789"),
    ("use bearer abcdef0123456789abcdef here", "abcdef0123456789"),
    ("GET / HTTP/1.1\nAuthorization: Basic dXNlcjpwYXNz\nAccept: */*", "dXNlcjpwYXNz"),
    ("Cookie: session=abc; theme=dark", "session=abc"),
    ("X-Api-Key: correct horse", "correct horse"),
    (f"before\n{PEM}\nafter", "MIIEowIBAAKCAQEA7bq"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq and then it was cut", "MIIEvQIBADANBgkq"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----", "lQOYBF"),
    ("postgres://ada:lovelace@db.example/x", "lovelace"),
    ("https://user:p%40ss@example.org/path", "p%40ss"),
    ("password=hunter2", "hunter2"),
    ("password: correcthorse", "correcthorse"),
    ("DB_PASSWORD='it is long, and has spaces'", "it is long"),
    ("PGPASSWORD=x1", "x1"),
    ('{"password": "hunter2", "user": "ada"}', "hunter2"),
    ('{"password": "with \\"quotes\\" inside"}', "inside"),
    ('{"body": "{\\"api_key\\": \\"abc123def\\", \\"n\\": 1}"}', "abc123def"),
    ("{'secret': 'sauce'}", "sauce"),
    ('{"access_token":"ya29.a0AfH6SMBx"}', "a0AfH6SMBx"),
    ("client_secret = 9f8e7d6c", "9f8e7d6c"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
    ("my-service.api-key: 12345abc", "12345abc"),
    ("auth_token => 'q1w2e3'", "q1w2e3"),
    ("passphrase: open", "open"),
    ("curl -u ada -H 'x' https://h/?api_key=k3y&page=2", "k3y"),
    ("password=b'hunter2'", "hunter2"),
    ("{'password': b'hunter2', 'n': 1}", "hunter2"),
    ('curl -H "Authorization: Basic dXNlcjpw" http://x', "dXNlcjpw"),
    ("Authorization: Bearer\n  hunter2", "hunter2"),
    ("mysql --password hunter2 --user ada", "hunter2"),
    ("--db-password correcthorse", "correcthorse"),
    ("--api-key 'k3y'", "k3y"),
    ('["serve", "--password", "hunter2"]', "hunter2"),
    ("('password', 'hunter2')", "hunter2"),
    ('[["user", "ada"], ["api_key", "k3y"]]', "k3y"),
    ('{"password": ["hunter2"]}', "hunter2"),
    ('{"passwords": 1, "password": ["a", "hunter2"]}', "hunter2"),
    ("password=(hunter2)", "hunter2"),
    ("<password>correct horse</password>", "horse"),
    ("<db:api-key kind='x'>k3y</db:api-key>", "k3y"),
    ("password: |\n  hunter2\n", "hunter2"),
    ("  private_key: >-\n    one1\n    two2\n  user: ada", "two2"),
    ("password:\n  hunter2\n", "hunter2"),
    ("DefaultEndpointsProtocol=https;AccountKey=hunter2abc==;EndpointSuffix=x", "hunter2"),
    ("https://hooks.slack.com/services/T00000000/B00000000/XXXXXXhunter2", "hunter2"),
    ("https://discord.com/api/webhooks/1234/hunter2", "hunter2"),
    ("https://x.blob.example/c?se=2030&sig=hunter2%3D", "hunter2"),
    ("API key: hunter2", "hunter2"),
]
INNOCENTS = [
    "max_tokens: 4096, tokens: 17",
    '{"max_tokens": 4096, "total_tokens": 12}',
    "The token: a word of a text. The secret: be kind.",
    "the secret to a good password is length",
    "password: null",
    '{"password": null, "token": ""}',
    "a bearer of bad news; a bearer authentication scheme",
    "Basic internationalization is easy",
    "sk-learn-contrib-extensions and task-force-management",
    "https://example.org:8080/path@v2?x=1 and mailto:ada@example.org",
    "see https://docs.example/a:b",
    "eyJ is how many of them begin",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "blake2b:0123456789abcdef0123456789abcdef",
    "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----",
    "key: value, keyboard: qwerty1, monkey=1",
    "AKIA is the prefix of an id",
    "cookie: recipe with 3 eggs",
    'columns: ["user", "password", "email"]',
    "('token', 1), (token, 'x')",
    "<token>the</token>",
    "run it with --token-file path and --tokens 5",
    "design=2, sig of 3",
    "the passage of time=3, compass: north1",
    "",
    "Übung macht den Meister: 東京 🙂",
]


@pytest.mark.parametrize(("text", "secret"), HITS, ids=lambda one: str(one)[:30])
def test_what_looks_like_a_secret_is_blacked_out(text, secret):
    found = Redactor()(text)
    assert BLACK in found
    assert secret not in found
    assert Redactor()(found) == found


@pytest.mark.parametrize("text", INNOCENTS, ids=lambda one: one[:30])
def test_what_does_not_is_left_alone(text):
    assert Redactor()(text) == text


def test_what_stands_around_a_secret_stays():
    redact = Redactor()
    assert redact('{"password": "hunter2", "user": "ada"}') == '{"password": "[redacted]", "user": "ada"}'
    assert redact("DB_PASSWORD='x y', n=1") == "DB_PASSWORD='[redacted]', n=1"
    assert redact("postgres://ada:lovelace@db/x") == "postgres://ada:[redacted]@db/x"
    assert redact("GET /\nAuthorization: Basic dXNlcg==\nAccept: a") == "GET /\nAuthorization: [redacted]\nAccept: a"
    assert redact("?api_key=k3y&page=2") == "?api_key=[redacted]&page=2"
    assert redact('{\\"token\\": \\"a1\\", \\"n\\": 2}') == '{\\"token\\": \\"[redacted]\\", \\"n\\": 2}'


def test_known_secrets_are_blacked_out_however_they_are_written():
    known = ["tr0ub4dor & 3", 'quo"te\nd', "tr0ub4dor", "short"]
    redact = Redactor(lambda: known)
    assert redact("it is tr0ub4dor & 3!") == "it is [redacted]!"
    assert redact("?q=tr0ub4dor%20%26%203") == "?q=[redacted]"
    assert redact('{"x": "quo\\"te\\nd"}') == '{"x": "[redacted]"}'
    assert redact("a short one stays") == "a short one stays"
    known.append("later found")
    assert redact("it was later found") == "it was [redacted]"


def test_a_known_secret_is_found_in_capitals_and_as_bytes_are_written():
    secret = b"Tr0ub4dor&3/horse"
    redact = Redactor(lambda: [secret.decode()])
    for text in (secret.upper(), secret.lower(), secret.hex().encode(), secret.hex().upper().encode()):
        assert redact(f"x {text.decode()} y") == "x [redacted] y"
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(5):
            told = encode(b"u" * before + secret + b":tail").decode()
            found = redact(told)
            assert BLACK in found
            assert len(found) - len(BLACK) <= len(told) - len(secret) * 8 // 6 + 1


def test_of_a_block_only_its_own_lines_are_blacked_out():
    text = "a: 1\nsecret: |\n  one1\n\n    two2\n  three\nuser: ada\n"
    assert Redactor()(text) == "a: 1\nsecret: |\n  [redacted]\nuser: ada\n"
    nested = "db:\n  password: |-\n    one\n  user: ada"
    assert Redactor()(nested) == "db:\n  password: |-\n    [redacted]\n  user: ada"


def test_no_text_takes_long_or_fails(seed, long_run):
    chance = random.Random(seed)
    parts = [
        "password=",
        '"',
        "\\",
        "-----BEGIN RSA PRIVATE KEY-----",
        "eyJ",
        ".",
        "sk-",
        "a" * 50,
        "://a:",
        "@",
        "\n",
        ": ",
        "\ud800",
        "🙂",
    ]
    alphabet = [*parts, *string.printable]
    redact = Redactor(lambda: ["hunter2x"])
    for _ in range(2_000 if long_run else 100):
        redact("".join(chance.choices(alphabet, k=chance.randrange(1, 400))))


@pytest.mark.parametrize(
    "unit",
    [
        "password=",
        "--password ",
        "('password',",
        "<password ",
        "password: |\n ",
        "token: ['",
        "a" * 10,
        "a:",
        '\\"',
        "sk-a",
        "eyJaaaaaaaaa.",
        "x://",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_a_long_text_of_one_thing_ends(unit):
    """A pattern that goes back and forth would take hours for it."""
    Redactor()((unit * 100_000)[:100_000])
