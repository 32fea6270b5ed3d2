"""Admin calls need a bearer token, compared in constant time; with none configured they are off."""

from __future__ import annotations

import hmac

from core.errors import RequestError


def require_admin(authorization: str | None, token: str) -> None:
    """Let the caller pass, or refuse.

    Raises:
        RequestError: 403 when no token is configured, 401 when the caller's is missing or wrong.

    >>> require_admin("Bearer s3cret", "s3cret")
    """
    if not token:
        raise RequestError(
            "admin calls are off: no admin token is configured (SCOREFUSION_ADMIN_TOKEN)", field="authorization", status=403
        )
    given = (authorization or "").encode()
    if not hmac.compare_digest(given, b"Bearer " + token.encode()):
        raise RequestError("admin calls need the header Authorization: Bearer TOKEN", field="authorization", status=401)
