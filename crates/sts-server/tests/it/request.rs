//! Requests that are no exchange: each `RequestError`, its status and its standard code.

use super::support::{GRANT_TYPE, JWT, Server, header, parameters, refused, token};

#[tokio::test]
async fn http_006_a_required_parameter_missing_empty_or_twice() {
    let server = Server::start().await;
    let token = token();
    let whole = parameters(&token);
    for (index, (name, value)) in whole.into_iter().enumerate() {
        let mut without = whole.to_vec();
        without.remove(index);
        refused(
            server.form("/aws/token", &without).await,
            400,
            "invalid_request",
        )
        .await;
        let mut empty = whole;
        empty[index].1 = "";
        refused(
            server.form("/aws/token", &empty).await,
            400,
            "invalid_request",
        )
        .await;
        let twice = [&whole[..], &[(name, value)]].concat();
        refused(
            server.form("/aws/token", &twice).await,
            400,
            "invalid_request",
        )
        .await;
    }
}

#[tokio::test]
async fn http_007_to_011_parameters_we_do_not_serve() {
    let server = Server::start().await;
    let token = token();
    let access_token = "urn:ietf:params:oauth:token-type:access_token";
    for (name, value, code) in [
        ("grant_type", "client_credentials", "unsupported_grant_type"),
        ("subject_token_type", access_token, "invalid_request"),
        ("requested_token_type", access_token, "invalid_request"),
        ("audience", "somebody.else", "invalid_target"),
        ("audience", "https://sts.test/aws", "invalid_target"),
        ("resource", "https://sts.amazonaws.com", "invalid_target"),
        ("actor_token", &token, "invalid_request"),
        ("actor_token_type", JWT, "invalid_request"),
        ("scope", "openid", "invalid_scope"),
    ] {
        let mut form = parameters(&token).to_vec();
        form.retain(|(present, _)| *present != name);
        form.push((name, value));
        refused(server.form("/aws/token", &form).await, 400, code).await;
    }
}

#[tokio::test]
async fn http_012_a_token_in_two_places_or_in_the_url() {
    let server = Server::start().await;
    let token = token();
    let both = server
        .request("POST", "/aws/token")
        .bearer_auth(&token)
        .form(&parameters(&token));
    refused(both.send().await.unwrap(), 400, "invalid_request").await;
    for query in [
        format!("?access_token={token}"),
        "?x=1".to_owned(),
        "?".to_owned(),
    ] {
        let path = format!("/aws/token{query}");
        refused(server.exchange(&path, &token).await, 400, "invalid_request").await;
        refused(server.bearer(&path, &token).await, 400, "invalid_request").await;
        let get = server
            .request("GET", &format!("/aws/token/user{query}"))
            .bearer_auth(&token);
        refused(get.send().await.unwrap(), 400, "invalid_request").await;
    }
}

#[tokio::test]
async fn http_013_another_content_type() {
    let server = Server::start().await;
    let token = token();
    let form = "application/x-www-form-urlencoded";
    let body = format!("grant_type={GRANT_TYPE}&subject_token={token}&subject_token_type={JWT}");
    for headers in [
        vec![],
        vec![("content-type", "application/json")],
        vec![("content-type", "multipart/form-data; boundary=x")],
        vec![(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-16",
        )],
        vec![("content-type", form), ("content-type", form)],
        vec![("content-type", form), ("content-encoding", "gzip")],
    ] {
        let mut request = server.request("POST", "/aws/token").body(body.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        refused(request.send().await.unwrap(), 415, "invalid_request").await;
    }
}

#[tokio::test]
async fn http_014_a_body_beyond_16_kib() {
    let server = Server::start().await;
    let token = token();
    let body = |length: usize| {
        let mut body =
            format!("grant_type={GRANT_TYPE}&subject_token={token}&subject_token_type={JWT}&x=");
        body.extend(std::iter::repeat_n('x', length - body.len()));
        server
            .request("POST", "/aws/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    };
    let limit = 16 * 1024;
    assert_eq!(body(limit).send().await.unwrap().status(), 200);
    refused(
        body(limit + 1).send().await.unwrap(),
        413,
        "invalid_request",
    )
    .await;
    // In chunks, whose sum nobody announced.
    let head = "POST /aws/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let request = format!("{head}{}", chunk.repeat(17));
    let answer = server.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn jwt_002_nobodys_token_is_401_without_an_error_code() {
    let server = Server::start().await;
    for (method, path) in [
        ("POST", "/aws/token"),
        ("POST", "/aws/reissue"),
        ("GET", "/aws/token/user"),
    ] {
        let response = server.request(method, path).send().await.unwrap();
        let headers = refused(response, 401, "invalid_request").await;
        assert_eq!(headers["www-authenticate"], "Bearer realm=\"sts\"");
    }
}

#[tokio::test]
async fn jwt_016_authorization_that_is_not_one_bearer_token() {
    let server = Server::start().await;
    let token = token();
    for values in [
        vec!["Basic dXNlcjpwYXNz".to_owned()],
        vec!["Bearer".to_owned()],
        vec![format!("Bearer  {token}")],
        vec![format!("Bearer\t{token}")],
        vec![format!("Bearer {token} {token}")],
        vec![format!("Bearer {token},{token}")],
        vec![token.clone()],
        vec![format!("Bearer {token}"), format!("Bearer {token}")],
        vec![format!("Bearer {token}"), "Basic eDp5".to_owned()],
    ] {
        for (method, path) in [("POST", "/aws/token"), ("GET", "/aws/token/user")] {
            let mut request = server.request(method, path);
            for value in &values {
                request = request.header("authorization", value);
            }
            refused(request.send().await.unwrap(), 400, "invalid_request").await;
        }
    }
}

#[tokio::test]
async fn jwt_015_the_schemes_case_does_not_matter() {
    let server = Server::start().await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEARER"] {
        let request = server
            .request("POST", "/aws/token")
            .header("authorization", format!("{scheme} {}", token()));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{scheme}");
        assert_eq!(header(&response, "content-type"), "application/jwt");
    }
}
