//! Tokens of commits as clients carry them: opaque bytes, and in a start request their base64.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;

use crate::node::{Origin, Token};
use crate::txn::AttemptId;
use crate::wire::CommitToken;

/// What goes into the answer to a commit.
pub(super) fn encode(token: &Token) -> Vec<u8> {
    let mut message = CommitToken { id: token.attempt.to_string(), ..CommitToken::default() };
    if let Some((origin, number)) = &token.place {
        message.node = origin.node.to_string();
        message.incarnation = origin.incarnation.to_string();
        message.number = *number;
    }
    message.encode_to_vec()
}

/// What came with a start request; the text again if it is no token.
pub(super) fn parse(text: &str) -> Result<Token, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| text.to_owned())?;
    let message = CommitToken::decode(&bytes[..]).map_err(|_| text.to_owned())?;
    let attempt = AttemptId::parse(&message.id).map_err(|_| text.to_owned())?;
    let place = (!message.node.is_empty()).then(|| {
        let (node, incarnation) = (message.node.into(), message.incarnation.into());
        (Origin { node, incarnation }, message.number)
    });
    Ok(Token { attempt, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let origin = Origin { node: "10.0.0.7:1".into(), incarnation: "x".into() };
        for place in [None, Some((origin, 9))] {
            let token = Token { attempt: AttemptId::parse("t.1").unwrap(), place };
            assert_eq!(parse(&URL_SAFE_NO_PAD.encode(encode(&token))), Ok(token));
        }
        for text in ["", "?", "AAAA", "t.1"] {
            assert_eq!(parse(text), Err(text.to_owned()));
        }
    }
}
