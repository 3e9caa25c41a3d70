"""Mints tokens with the libraries that platforms use, djangorestframework-simplejwt and PyJWT.

    python mint_tokens.py FOLDER

Prints one JSON object a line: {"name", "token", "expect", "user_id", "key", "settings"}.
`expect` is "accept" or the close code; `user_id` is null where no user is to be accepted; `key` says which
key signed it; `settings` are the variables, beyond the keys and algorithms, under which `expect` holds.

FOLDER holds the keys, and what is missing there is made: `hs.secret`, private keys `rs.pem`, `es256.pem`,
`es384.pem`, `ed.pem`, and the public ones in `rs.pub.pem`, `es.pub.pem`, `ed.pub.pem`, `public.pem` (all).
"""

import base64
import hashlib
import hmac
import json
import pathlib
import secrets
import sys
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import django
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.conf import settings

USER_ID = 7
MAKERS = {
    "rs": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed": ed25519.Ed25519PrivateKey.generate,
}


def read_keys(folder):
    """The keys by name, as texts: "hs" is the secret, the others are private keys in PEM."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "hs.secret"
    if not secret.exists():
        secret.write_text(secrets.token_urlsafe(64))
    keys = {"hs": secret.read_text()}
    public = {}
    for name, make in MAKERS.items():
        path = folder / f"{name}.pem"
        if not path.exists():
            path.write_bytes(private_pem(make()))
        keys[name] = path.read_text()
        key = serialization.load_pem_private_key(path.read_bytes(), None).public_key()
        public[name] = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()
    (folder / "rs.pub.pem").write_text(public["rs"])
    (folder / "es.pub.pem").write_text(public["es256"] + public["es384"])
    (folder / "ed.pub.pem").write_text(public["ed"])
    (folder / "public.pem").write_text("".join(public.values()))
    return keys, public


def private_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def say(name, token, expect="accept", key="hs", user_id=USER_ID, **variables):
    line = {
        "name": name,
        "token": str(token),
        "expect": expect,
        "user_id": user_id if expect == "accept" else None,
        "key": key,
        "settings": variables,
    }
    print(json.dumps(line))


def simplejwt(keys):
    """As a Django platform with this SIMPLE_JWT setting would answer a login."""
    settings.configure(SECRET_KEY=keys["hs"], INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"])
    django.setup()
    from rest_framework_simplejwt.backends import TokenBackend
    from rest_framework_simplejwt.settings import api_settings
    from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, SlidingToken

    user = SimpleNamespace(id=USER_ID, pk=USER_ID, is_active=True, password="x")
    refresh = RefreshToken.for_user(user)
    say("simplejwt access token of a login", refresh.access_token)
    say("simplejwt access token", AccessToken.for_user(user))
    say("simplejwt refresh token", refresh, "4001")
    say("simplejwt sliding token", SlidingToken.for_user(user), "4001")

    old = AccessToken()
    old["user_id"] = USER_ID
    say("simplejwt access token with an integer id, as before 5.5", old)
    named = AccessToken.for_user(user)
    named["first_name"], named["last_name"], named["username"] = "Ada", "Lovelace", "ada"
    say("simplejwt access token with names", named)

    expired = AccessToken.for_user(user)
    expired.set_exp(from_time=datetime.now(timezone.utc) - timedelta(days=2))
    say("simplejwt access token that has expired", expired, "4002")
    expired = RefreshToken.for_user(user)
    expired.set_exp(from_time=datetime.now(timezone.utc) - timedelta(days=30))
    say("simplejwt refresh token that has expired", expired, "4001")
    nameless = AccessToken()
    say("simplejwt access token of nobody", nameless, "4001")
    someone = AccessToken.for_user(SimpleNamespace(id="5c8c1e0a-0d8f-4b57-9c9d-5a4f3c0b7a11", pk=1, is_active=True))
    say("simplejwt access token of a UUID", someone, "4001")

    api_settings.USER_ID_CLAIM = "uid"
    say("simplejwt access token with another USER_ID_CLAIM, not configured", AccessToken.for_user(user), "4001")
    say(
        "simplejwt access token with another USER_ID_CLAIM, configured",
        AccessToken.for_user(user),
        TIDINGS_JWT_USER_CLAIM="uid",
    )
    api_settings.USER_ID_CLAIM = "sub"
    say("simplejwt access token with USER_ID_CLAIM sub", AccessToken.for_user(user))
    api_settings.USER_ID_CLAIM = "user_id"

    def access(algorithm="HS256", key="hs", **options):
        """As under SIMPLE_JWT settings with another ALGORITHM, SIGNING_KEY, ISSUER or AUDIENCE."""
        token = AccessToken.for_user(user)
        token._token_backend = TokenBackend(algorithm, keys[key], **options)
        return token

    for algorithm, key in (("HS384", "hs"), ("HS512", "hs"), ("RS256", "rs"), ("ES256", "es256")):
        say(f"simplejwt access token by {algorithm}", access(algorithm, key), key=key[:2])
    platform = "https://platform.example"
    both = {"TIDINGS_JWT_ISSUER": platform, "TIDINGS_JWT_AUDIENCE": "chat"}
    named = access(issuer=platform, audience=["shop", "chat"])
    say("simplejwt access token with issuer and audience", named, **both)
    say("simplejwt access token with issuer and audience, none configured", named)
    say("simplejwt access token of another issuer", access(issuer=f"{platform}/", audience="chat"), "4001", **both)
    say("simplejwt access token for another audience", access(issuer=platform, audience="shop"), "4001", **both)


def pyjwt(keys, public):
    now = datetime.now(timezone.utc)
    hour = {"exp": now + timedelta(hours=1), "iat": now}

    def mint(key="hs", algorithm="HS256", headers=None, **claims):
        merged = {name: value for name, value in {**hour, "user_id": USER_ID, **claims}.items() if value is not None}
        return jwt.encode(merged, keys[key] if key in keys else key, algorithm=algorithm, headers=headers)

    algorithms = {
        "HS256": "hs", "HS384": "hs", "HS512": "hs", "RS256": "rs", "RS384": "rs", "RS512": "rs",
        "ES256": "es256", "ES384": "es384", "EdDSA": "ed",
    }  # fmt: skip
    for algorithm, key in algorithms.items():
        say(f"PyJWT {algorithm}", mint(key, algorithm), key=key[:2])
        say(f"PyJWT {algorithm} expired", mint(key, algorithm, exp=now - timedelta(minutes=5)), "4002", key[:2])
        other = secrets.token_urlsafe(64) if key == "hs" else private_pem(MAKERS[key]()).decode()
        say(f"PyJWT {algorithm} by another key", mint(other, algorithm), "4001", key[:2])
    say("PyJWT PS256, which is not configured", mint("rs", "PS256"), "4001", "rs")
    say("PyJWT none", jwt.encode({"user_id": USER_ID, "exp": now + timedelta(hours=1)}, None, "none"), "4001")
    say("HS256 signed with the public key", signed_with_public_key(public["rs"]), "4001", "rs")

    say("PyJWT with a kid", mint(headers={"kid": "some key"}))
    say("PyJWT with a string id", mint(user_id=str(USER_ID)))
    say("PyJWT with sub", mint(user_id=None, sub=str(USER_ID)))
    say("PyJWT with float times", mint(exp=time.time() + 3600.5, iat=time.time(), nbf=time.time() - 0.5))
    say("PyJWT with nbf past", mint(nbf=now - timedelta(minutes=5)))
    say("PyJWT with nbf to come", mint(nbf=now + timedelta(minutes=5)), "4001")
    say("PyJWT without exp", mint(exp=None), "4001")
    say("PyJWT without iat", mint(iat=None))
    say("PyJWT expired by a float", mint(exp=time.time() - 1.5), "4002")
    say("PyJWT expired and of nobody", mint(exp=now - timedelta(minutes=5), user_id=None), "4001")
    say("PyJWT with token_type access", mint(token_type="access"))
    say("PyJWT with token_type refresh", mint(token_type="refresh"), "4001")
    say("PyJWT with issuer", mint(iss="us"), TIDINGS_JWT_ISSUER="us")
    say("PyJWT without the issuer", mint(), "4001", TIDINGS_JWT_ISSUER="us")
    say("PyJWT with audience", mint(aud="chat"), TIDINGS_JWT_AUDIENCE="chat")
    say("PyJWT with audiences", mint(aud=["shop", "chat"]), TIDINGS_JWT_AUDIENCE="chat")
    say("PyJWT without the audience", mint(), "4001", TIDINGS_JWT_AUDIENCE="chat")
    for user_id in (0, -7, 7.5, 2**53, True, "seven", "", ["7"]):
        say(f"PyJWT with the id {user_id!r}", mint(user_id=user_id), "4001")


def signed_with_public_key(pem):
    """What PyJWT refuses to make: the public key's text, which everybody has, taken for a secret."""

    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"user_id": USER_ID, "exp": int(time.time()) + 3600}
    message = encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + encode(json.dumps(claims).encode())
    return (message + b"." + encode(hmac.new(pem.encode(), message, hashlib.sha256).digest())).decode()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    keys, public = read_keys(pathlib.Path(sys.argv[1]))
    simplejwt(keys)
    pyjwt(keys, public)


main()
