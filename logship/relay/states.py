"""The states of one client's session, and everything that may happen in each: one table.

`TABLE[state, input]` is the state that follows. An input that has no entry is not allowed there:
`logship.relay.session` says so to the client (`FORBIDDEN`), or, when the input is one of ours, it is a
defect. `docs/relay.md` shows the same table, and a test compares.

Source: PostgreSQL documentation, "Message Flow"; src/backend/tcop/postgres.c, src/backend/tcop/backend_startup.c
and src/backend/replication/walsender.c.
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    STARTUP = "startup"  # nothing was agreed yet
    NO_TLS = "no TLS"  # TLS was asked for and refused
    NO_GSS = "no GSS"  # GSS encryption was asked for and refused
    PLAIN = "plain"  # both were
    HANDSHAKE = "handshake"  # TLS is being started
    SECURED = "secured"  # it is up, and the startup packet comes
    SASL = "SASL"  # the mechanism and the client's first message are awaited
    SASL_PROOF = "SASL proof"  # its last one
    READY = "ready"  # for a command
    COMMAND = "command"  # the pump has a command, and what comes meanwhile waits
    SKIPPING = "skipping"  # an error in the extended protocol: until Sync
    STREAMING = "streaming"  # CopyBoth
    CLIENT_ENDED = "client ended"  # the client's CopyDone came, ours is due
    WE_ENDED = "we ended"  # our CopyDone is sent, the client's is awaited
    CLOSED = "closed"


class Input(enum.Enum):
    # from the client
    SSL_REQUEST = "SSLRequest"
    GSSENC_REQUEST = "GSSENCRequest"
    CANCEL_REQUEST = "CancelRequest"
    STARTUP_MESSAGE = "StartupMessage"
    SASL_RESPONSE = "SASL response"
    QUERY = "Query"
    EXTENDED = "Parse, Bind …"
    SYNC = "Sync"
    FLUSH = "Flush"
    FUNCTION_CALL = "FunctionCall"
    COPY_DATA = "CopyData"
    COPY_DONE = "CopyDone"
    COPY_FAIL = "CopyFail"
    TERMINATE = "Terminate"
    # from us
    TLS_ACCEPTED = "TLS accepted"
    TLS_STARTED = "TLS started"
    SASL_BEGUN = "SASL begun"
    PROOF_AWAITED = "proof awaited"
    ADMITTED = "admitted"
    ASKED = "handed to the pump"
    ANSWERED = "answered"
    COPY_BOTH = "CopyBoth"
    END = "stream ended"
    REFUSED = "refused"
    ENDED = "ended"


_S, _I = State, Input
OPEN: Final = frozenset(State) - {State.CLOSED}
UNSTARTED: Final = (_S.STARTUP, _S.NO_TLS, _S.NO_GSS, _S.PLAIN, _S.SECURED)  # the startup packet may come

TABLE: Final[dict[tuple[State, Input], State]] = {
    # -- which encryption
    (_S.STARTUP, _I.SSL_REQUEST): _S.NO_TLS,
    (_S.NO_GSS, _I.SSL_REQUEST): _S.PLAIN,
    (_S.STARTUP, _I.TLS_ACCEPTED): _S.HANDSHAKE,
    (_S.NO_GSS, _I.TLS_ACCEPTED): _S.HANDSHAKE,
    (_S.HANDSHAKE, _I.TLS_STARTED): _S.SECURED,
    (_S.STARTUP, _I.GSSENC_REQUEST): _S.NO_GSS,
    (_S.NO_TLS, _I.GSSENC_REQUEST): _S.PLAIN,
    # -- who it is
    **{(state, _I.CANCEL_REQUEST): _S.CLOSED for state in UNSTARTED},
    **{(state, _I.STARTUP_MESSAGE): state for state in UNSTARTED},
    **{(state, _I.ADMITTED): _S.READY for state in UNSTARTED},
    **{(state, _I.SASL_BEGUN): _S.SASL for state in UNSTARTED},
    (_S.SASL, _I.SASL_RESPONSE): _S.SASL,
    (_S.SASL, _I.PROOF_AWAITED): _S.SASL_PROOF,
    (_S.SASL_PROOF, _I.SASL_RESPONSE): _S.SASL_PROOF,
    (_S.SASL_PROOF, _I.ADMITTED): _S.READY,
    # -- commands
    (_S.READY, _I.QUERY): _S.READY,
    (_S.READY, _I.ASKED): _S.COMMAND,
    (_S.READY, _I.REFUSED): _S.READY,
    (_S.READY, _I.EXTENDED): _S.SKIPPING,
    (_S.READY, _I.FUNCTION_CALL): _S.READY,
    (_S.READY, _I.SYNC): _S.READY,
    (_S.READY, _I.FLUSH): _S.READY,
    (_S.COMMAND, _I.ANSWERED): _S.READY,
    (_S.COMMAND, _I.REFUSED): _S.READY,
    (_S.COMMAND, _I.COPY_BOTH): _S.STREAMING,
    # a client may still be sending when it is told of an error
    (_S.READY, _I.COPY_DATA): _S.READY,
    (_S.READY, _I.COPY_DONE): _S.READY,
    (_S.READY, _I.COPY_FAIL): _S.READY,
    # -- after an error in the extended protocol
    (_S.SKIPPING, _I.SYNC): _S.READY,
    **{
        (_S.SKIPPING, input_): _S.SKIPPING
        for input_ in (
            _I.QUERY, _I.EXTENDED, _I.FLUSH, _I.FUNCTION_CALL, _I.COPY_DATA, _I.COPY_DONE, _I.COPY_FAIL,
        )
    },
    # -- the stream
    (_S.STREAMING, _I.COPY_DATA): _S.STREAMING,
    (_S.STREAMING, _I.COPY_DONE): _S.CLIENT_ENDED,
    (_S.STREAMING, _I.END): _S.WE_ENDED,
    (_S.STREAMING, _I.REFUSED): _S.READY,
    (_S.CLIENT_ENDED, _I.END): _S.READY,
    (_S.CLIENT_ENDED, _I.REFUSED): _S.READY,
    (_S.WE_ENDED, _I.COPY_DATA): _S.WE_ENDED,
    (_S.WE_ENDED, _I.COPY_DONE): _S.READY,
    # -- the end
    **{(state, _I.TERMINATE): _S.CLOSED for state in (_S.READY, _S.SKIPPING, _S.STREAMING, _S.WE_ENDED)},
    **{(state, _I.ENDED): _S.CLOSED for state in OPEN},
}  # fmt: skip

# In these the client's bytes wait until the pump has answered.
WAITING: Final = frozenset({State.COMMAND, State.CLIENT_ENDED})
DEAF: Final = WAITING | {State.CLOSED}
UNAUTHENTICATED: Final = frozenset({*UNSTARTED, State.HANDSHAKE, State.SASL, State.SASL_PROOF})

FROM_CLIENT: Final[dict[bytes, Input]] = {
    b"p": Input.SASL_RESPONSE, b"Q": Input.QUERY, b"S": Input.SYNC, b"H": Input.FLUSH, b"X": Input.TERMINATE,
    b"F": Input.FUNCTION_CALL, b"d": Input.COPY_DATA, b"c": Input.COPY_DONE, b"f": Input.COPY_FAIL,
    b"P": Input.EXTENDED, b"B": Input.EXTENDED, b"E": Input.EXTENDED, b"D": Input.EXTENDED, b"C": Input.EXTENDED,
}  # fmt: skip
