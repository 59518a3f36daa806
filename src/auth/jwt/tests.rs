use super::*;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{EncodingKey, Header as TokenHeader};
use serde_json::json;

const NOW: u64 = 1_800_000_000;
/// Made for these tests; PKCS #8.
const EC: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgX69rm7XCWYpJ7oKe2qteT/mmgaxMJqh/PUTth+KNBdihRANCAARMO3RzN7kjaWRtWTuB3dcrDWu5BSrmfgvl7wB+dW6fXl5oJJPVQz7UX/xhkr8bB5cngc/6RzBzX0pCJ6RRghbl";
const EC_X: &str = "TDt0cze5I2lkbVk7gd3XKw1ruQUq5n4L5e8AfnVun14";
const EC_Y: &str = "Xmgkk9VDPtRf_GGSvxsHlyeBz_pHMHNfSkInpFGCFuU";
/// Made for these tests; PKCS #1.
const RSA: &str = concat!(
    "MIIEpAIBAAKCAQEAvFxcOi1IdiecijH/wBQMC1oH0LwMktX3dPXcIIgtmnoGX0AWOOI/BOW5B3/K77+4bvNoKAwLcP7bO+kr",
    "zcF/Sf/xix3gtGkM0vAPl1VaxPOOjBJCFkqkqy5cMMuIUEt22KDc4ghMtDJsKaaIMhT+mOGZmtewZsWUlDFgYgZP0TIh9ia7",
    "/fCuyl8ggbD++MBg99xEA69xlUx5HcEUXlV2dlqQCjhGaCqXpLmPrA7SsIFuXijtOeL3oWmG8HTS/yOHATbnN1DGaYWtj+WG",
    "dQ+kiLQWdCX9oqyYyVks7rkcyrmn81kklIjpQzvtTni6532fZdrTBo0tag06IBh3uYGeTwIDAQABAoIBAFa3YKBJ86etwdQf",
    "g6IOuKLLPnja8iDxj5yRideSSghpsCBO1Uw34JJlHiN1Mlzg00yFE8kIDoZlVlIFHWz67ZqIUc/dn/L+v/Amo87kdUbh6BjV",
    "WQaBM8E5NSkjsqxgqaS+niITdxiodAJS0DXaU4HXrstKDESsJqR4/On0BPAGDPrLmH0nAHEd5NliBNO/7h2pPUI6uPzOu2ZD",
    "va+eTlYDYiiB1+Ef8ZBaX7UjZymyleSkt9EXcdRObledYev02nVNrIZMuRmBHW8h2vFKweTRmUkPGBJo30W983M5NcSrJES7",
    "YBlGkMeisSoQOHyPG2rT4Xgj4mQLfK0zHyfzocECgYEA8CvGHm/udb2L4cIo4Gyc93Z5R5S/vennKNYw3/fZWIWpyUy0Wvio",
    "fnJ+QfmLI707CYatfnLNwpELrBbIHV+NnLmS1F4iuvLE6iIdjv86f8m8wvkWU5gduolv6ZT4l1bRmm+TtPlODe7XW1ovPvFW",
    "vvh6zo9yHJbI4apUNR/BJA8CgYEAyMZuavhmaBsfngn3S1P7ygPsOGmxX+t1Zil1O1nA38gpL/P9/NRqX4zGFt5GIcQhk9U/",
    "7LpjJ2FIwqWdNACEqGGPmeflCsu/eFCWLDwTHXpiIMP7F3YorfloqleaoMzmfOVp1c8gP3QDBZISZ4/HAb0+la7Tq3zAoSKf",
    "DANIocECgYEAo8rGr8VYVFXziwCWTg/ksOPMbGPmrEdTzcbdyDDIupVVqKI2MgB5MNs2fhoIqVQJakK+GYmECBhRZIiY62da",
    "NbNdjpWwi9y7LI4dqIMpyzKzGCk178bDJ49Jknx1WQjto6xKiNapQ9lKZ9PGet+ucEkXv72WbibrUvONwDkqyEMCgYAle34j",
    "tEoSB3ZIn92uD3jDRyYzhe/aU2/waa78LI5oeMrPrAJv0Awn2HUm0cpQBXirS7WKcWWPdYcK57ZIfgxGDyiq9/L3qAAP6yOO",
    "EI0VBMMLEOtwfturVxOmMYKpoHcrO/0dMHT5w6PIx3NuKBZkCbuEYEYeDsU7j+YXbQmDQQKBgQCv0WfnbgxOVxHcCoKt222F",
    "sO2ekNqPpUuewzWX1WgVbg/apidocMAe/rsevXe4hCFeUMmFHhnk+OiTn6lBmwaqm6mThCBTnS1eDgL/txPxlCZaoL//kAuS",
    "NgaTT1KpULrn6SybyBQIKnfXqMWJQ8vbaC6Fr1X5JyNdjFIx2fEplw==",
);
const RSA_N: &str = concat!(
    "vFxcOi1IdiecijH_wBQMC1oH0LwMktX3dPXcIIgtmnoGX0AWOOI_BOW5B3_K77-4bvNoKAwLcP7bO-krzcF_Sf_xix3gtGkM",
    "0vAPl1VaxPOOjBJCFkqkqy5cMMuIUEt22KDc4ghMtDJsKaaIMhT-mOGZmtewZsWUlDFgYgZP0TIh9ia7_fCuyl8ggbD--MBg",
    "99xEA69xlUx5HcEUXlV2dlqQCjhGaCqXpLmPrA7SsIFuXijtOeL3oWmG8HTS_yOHATbnN1DGaYWtj-WGdQ-kiLQWdCX9oqyY",
    "yVks7rkcyrmn81kklIjpQzvtTni6532fZdrTBo0tag06IBh3uYGeTw",
);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn key_set() -> Value {
    json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "ec", "x": EC_X, "y": EC_Y},
        {"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB", "use": "sig"},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "small", "n": "AQAB", "e": "AQAB"},
    ]})
}

fn verifier() -> Verifier {
    let keys = KeySet::parse(key_set().to_string().as_bytes()).expect("a key set");
    assert_eq!(keys.len(), 2, "symmetric and small keys are left out");
    let issuer = Issuer { keys, audiences: vec!["trex".into()] };
    let issuers = HashMap::from([("https://sso.example".to_owned(), issuer)]);
    Verifier { issuers, leeway: Duration::from_secs(30), longest_life: None }
}

fn claims() -> Value {
    json!({"iss": "https://sso.example", "aud": "trex", "sub": "alice", "exp": NOW + 60, "team": "blue"})
}

fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => claims.as_object_mut().expect("an object").remove(name),
            value => claims.as_object_mut().expect("an object").insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn der(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("base64")
}

fn sign(algorithm: Algorithm, kid: &str, claims: &Value) -> String {
    let key = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_der(&der(EC)),
        Algorithm::HS256 => EncodingKey::from_secret(RSA_N.as_bytes()),
        _ => EncodingKey::from_rsa_der(&der(RSA)),
    };
    let header = TokenHeader { kid: Some(kid.to_owned()), ..TokenHeader::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &key).expect("a token")
}

/// A token with a header that the library would not write.
fn with_header(header: Value, claims: &Value) -> String {
    let signed = sign(Algorithm::ES256, "ec", claims);
    let rest = signed.split_once('.').expect("three parts").1;
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[test]
fn a_good_token_says_who_calls() {
    for (algorithm, kid) in [(Algorithm::ES256, "ec"), (Algorithm::RS256, "rsa"), (Algorithm::PS512, "rsa")] {
        let principal = verifier().verify(&sign(algorithm, kid, &claims()), now()).expect("a principal");
        assert_eq!(principal.name().as_deref(), Some("https://sso.example#alice"));
        assert_eq!(principal.claims.text("team"), Some("blue"));
        assert_eq!(principal.expires, Some(now() + Duration::from_secs(90)), "with the leeway");
    }
    let list = with(json!({"aud": ["other", "trex"]}));
    assert!(verifier().verify(&sign(Algorithm::ES256, "ec", &list), now()).is_ok());
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let refused = |changes: Value| {
        let refusal = verifier().verify(&sign(Algorithm::ES256, "ec", &with(changes.clone())), now());
        refusal.expect_err(&changes.to_string())
    };
    for missing in ["exp", "iss", "aud", "sub"] {
        assert!(matches!(refused(json!({missing: null})), Refusal::Claim(name) if name == missing));
        assert!(matches!(refused(json!({missing: 1.5})), Refusal::Claim(_)), "{missing}");
    }
    assert!(matches!(refused(json!({"sub": ""})), Refusal::Claim("sub")));
    assert!(matches!(refused(json!({"aud": "other"})), Refusal::Audience));
    assert!(matches!(refused(json!({"aud": []})), Refusal::Audience));
    assert!(matches!(refused(json!({"iss": "https://sso.example/"})), Refusal::Issuer));
    assert!(matches!(refused(json!({"exp": NOW - 31})), Refusal::Expired));
    for odd in
        [json!(-1), json!("1900000000"), json!(1.9e9), json!(1e300), json!(LAST_SECOND + 1), json!(true)]
    {
        for name in ["exp", "nbf", "iat"] {
            assert!(matches!(refused(json!({name: odd})), Refusal::Claim(_)), "{name}: {odd}");
        }
    }
    assert!(matches!(refused(json!({"nbf": NOW + 31})), Refusal::NotYet));
    assert!(matches!(refused(json!({"iat": NOW + 31})), Refusal::Claim("iat")));
    assert!(matches!(refused(json!({"typ": "ID"})), Refusal::Kind));
    let brief = Verifier { longest_life: Some(Duration::from_secs(10)), ..verifier() };
    assert!(brief.verify(&sign(Algorithm::ES256, "ec", &claims()), now()).is_err());
}

#[test]
fn keys_and_algorithms_that_do_not_fit_are_refused() {
    let refused = |token: &str| verifier().verify(token, now()).expect_err(token);
    assert!(matches!(refused(&sign(Algorithm::HS256, "rsa", &claims())), Refusal::Algorithm));
    assert!(matches!(refused(&with_header(json!({"alg": "none"}), &claims())), Refusal::Algorithm));
    assert!(matches!(refused(&sign(Algorithm::ES256, "new", &claims())), Refusal::UnknownKey { .. }));
    assert!(matches!(refused(&sign(Algorithm::RS256, "ec", &claims())), Refusal::UnknownKey { .. }));
    for header in [
        json!({"alg": "ES256", "kid": "ec", "crit": ["b64"]}),
        json!({"alg": "ES256", "kid": 7}),
        json!({"kid": "ec"}),
        json!([]),
    ] {
        assert!(matches!(refused(&with_header(header, &claims())), Refusal::Malformed(_)));
    }
    assert!(matches!(refused(&with_header(json!({"alg": "ES256", "typ": "ID"}), &claims())), Refusal::Kind));
    // Keys in the token itself are not looked at.
    let own =
        json!({"alg": "ES256", "kid": "ec", "jwk": {"kty": "oct", "k": "AA"}, "jku": "https://evil.example"});
    assert!(matches!(refused(&with_header(own, &claims())), Refusal::Signature));
}

#[test]
fn a_changed_token_is_refused() {
    let token = sign(Algorithm::ES256, "ec", &claims());
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let (header, _) = signed.split_once('.').expect("two parts");
    let other = URL_SAFE_NO_PAD.encode(with(json!({"sub": "bob"})).to_string());
    assert!(matches!(
        verifier().verify(&format!("{header}.{other}.{signature}"), now()),
        Err(Refusal::Signature)
    ));
    for end in 0..token.len() {
        assert!(verifier().verify(&token[..end], now()).is_err(), "{end}");
    }
    assert!(verifier().verify(&"a".repeat(MOST_BYTES + 1), now()).is_err());
    assert!(verifier().verify(&format!("{token}.x"), now()).is_err());
}

#[test]
fn a_key_belongs_to_its_issuer() {
    let mut verifier = verifier();
    let keys = KeySet::parse(key_set().to_string().as_bytes()).expect("a key set");
    verifier.issuers.insert("https://other.example".into(), Issuer { keys, audiences: vec!["other".into()] });
    let stolen = with(json!({"iss": "https://other.example"}));
    assert!(matches!(verifier.verify(&sign(Algorithm::ES256, "ec", &stolen), now()), Err(Refusal::Audience)));
}
