//! Who may read from the test registry: rules in, a challenge or a token out. Knows dummy
//! credentials only.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::State;
use super::http::{Request, Response};

/// Which credentials the registry asks for.
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// None.
    #[default]
    Anonymous,
    /// A user and a password with every request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token from `/token`.
    Bearer(BearerRules),
}

/// How the token endpoint behaves.
#[derive(Debug, Clone, Default)]
pub struct BearerRules {
    /// User and password that it asks for; `None` gives tokens to anybody.
    pub credentials: Option<(String, String)>,
    /// A refresh token that it takes by POST.
    pub identity_token: Option<String>,
    /// How many requests a token is good for; `None`: any number.
    pub uses: Option<u32>,
    /// `expires_in` of its answers, in seconds.
    pub expires_in: Option<u64>,
    /// Whether the answer says `access_token` (OAuth 2) instead of `token`.
    pub oauth_member: bool,
}

/// The challenge for a request that may not pass; `None` lets it through.
pub(super) fn check(state: &mut State, request: &Request, host: &str) -> Option<Response> {
    let given = request.headers.get("authorization").map(String::as_str);
    let challenge = match &state.access {
        Access::Anonymous => return None,
        Access::Basic { user, password } => {
            if given == Some(&basic(user, password)) {
                return None;
            }
            r#"Basic realm="test""#.to_owned()
        }
        Access::Bearer(_) => {
            if spend(&mut state.tokens, given) {
                return None;
            }
            format!(r#"Bearer realm="http://{host}/token",service="test",scope="none""#)
        }
    };
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    Some(Response::new(401, body).with("WWW-Authenticate", &challenge))
}

/// Answers `/token`.
pub(super) fn token(state: &mut State, request: &Request) -> Response {
    let Access::Bearer(rules) = state.access.clone() else {
        return Response::new(404, "no tokens here");
    };
    let given = request.headers.get("authorization").map(String::as_str);
    let allowed = match (&rules.identity_token, &rules.credentials) {
        (Some(token), _) => {
            request.method == "POST" && request.body.contains(&format!("refresh_token={token}"))
        }
        (None, Some((user, password))) => given == Some(&basic(user, password)),
        (None, None) => true,
    };
    if !allowed {
        return Response::new(401, r#"{"details":"incorrect username or password"}"#);
    }
    state.tokens_given += 1;
    let token = format!("dummy-token-{}", state.tokens_given);
    state
        .tokens
        .insert(format!("Bearer {token}"), rules.uses.unwrap_or(u32::MAX));
    let member = if rules.oauth_member {
        "access_token"
    } else {
        "token"
    };
    let mut answer = serde_json::json!({ member: token });
    if let Some(seconds) = rules.expires_in {
        answer["expires_in"] = seconds.into();
    }
    Response::new(200, answer.to_string())
}

fn spend(tokens: &mut HashMap<String, u32>, given: Option<&str>) -> bool {
    match given.and_then(|given| tokens.get_mut(given)) {
        Some(left) if *left > 0 => {
            *left = left.saturating_sub(u32::from(*left != u32::MAX));
            true
        }
        _ => false,
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
