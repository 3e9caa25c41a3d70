//! What a close code means to whoever holds the client, and what helps. Knows no connection.

/// What the code says, and what to do about it.
pub fn explain(code: u16) -> (&'static str, &'static str) {
    match code {
        1000 => ("normal: the connection was ended in good order", "nothing to do"),
        1001 | 1012 => (
            "the server is going down or restarting",
            "connect again after the retry_after_ms of the reason, with some jitter",
        ),
        1002 => ("a frame broke the WebSocket protocol", "look at the client's WebSocket library or a proxy between"),
        1003 => ("the server does not take this kind of frame", "send JSON text frames"),
        1005 | 1006 => (
            "the connection ended without a close frame",
            "look for a proxy that cuts connections, or a server that crashed",
        ),
        1007 => ("a text frame was not UTF-8", "encode frames as UTF-8"),
        1009 => ("a frame was larger than the server takes", "send less at once, or raise TIDINGS_FRAME_BYTES_MAX"),
        1011 => ("the server failed", "look into the server's log; connect again later"),
        1013 => (
            "the server cannot reach its store or its key set at the moment",
            "try again later; the operator finds the cause on /readyz and in the log",
        ),
        4001 => (
            "the token is invalid",
            "check that the platform signs with the key, algorithm, issuer and audience that the server is set to \
             (TIDINGS_JWT_…), and that the token arrived whole",
        ),
        4002 => ("the token has expired", "get a fresh token from the platform and connect again"),
        4003 => ("no token arrived", "send it as ?token=… in the address or as Authorization: Bearer …"),
        4004 => (
            "access denied: the user does not take part in this conversation, or there is no such conversation",
            "check the conversation's id, and that the user was added to it",
        ),
        4005 => (
            "the address names another user than the token",
            "put the token's own user id in the address, or use that user's token",
        ),
        4006 => (
            "the platform has revoked the user's sessions or erased the user",
            "log in again: only a token issued after the revocation is accepted",
        ),
        4007 => ("the user has too many connections", "close some of them, or raise TIDINGS_CONNECTIONS_PER_USER_MAX"),
        4008 => ("the client sent far more than its rate allows", "send more slowly; connect again later"),
        4009 => (
            "the client read too slowly, and its queue was full",
            "read without pause; connect again with since= to get what was missed",
        ),
        4010 => ("the client answered no heartbeat", "answer pings (libraries do); connect again"),
        _ => ("a code that the contract does not name", "look into the server's documentation or log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_contract_is_explained() {
        let unknown = explain(4999);
        for code in [1000, 1001, 1002, 1007, 1009, 1011, 1012, 1013].into_iter().chain(4001..=4010) {
            assert_ne!(explain(code), unknown, "{code}");
        }
    }
}
