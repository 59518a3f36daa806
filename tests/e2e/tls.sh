# shellcheck shell=bash
# shellcheck disable=SC2154 # ports, work, hub and the like are set in lib.sh and run
# shellcheck disable=SC2034 # run_as and the like are read in lib.sh
# Encrypted listeners, as grpcurl and curl see them.

certificates() { # makes an authority, a hub's certificate and a client's, in $work/tls
  mkdir -p "$work/tls"
  (
    cd "$work/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
      -keyout authority.key -out authority.crt
    for name in hub client; do
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
      openssl x509 -req -in "$name.csr" -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 \
        -extfile <(printf 'subjectAltName=DNS:localhost') -out "$name.crt"
    done
  ) >"$work/tls.log" 2>&1 || fail 'openssl' 'certificates' "$(<"$work/tls.log")"
}

ready_by_tls() { curl -fsS -m 2 --cacert "$work/tls/authority.crt" "https://localhost:$health_port/readyz"; }
ready_by_tls_or_gone() { gone "$hub" || ready_by_tls; }

secured() { # ARGUMENT... : sets rc, output in $work/secured
  rc=0
  timeout 20 grpcurl -max-time 10 -format-error "$@" "localhost:$grpc_port" list >"$work/secured" 2>&1 </dev/null || rc=$?
}

tls_to_clients() { # DATA-DIR, of a hub that does not run
  local tls=$work/tls
  certificates
  spawn_hub --data-dir "$1" --grpc-enable-tls --grpc-tls-cert-file "$tls/hub.crt" --grpc-tls-key-file "$tls/hub.key" \
    --grpc-tls-enable-client-auth --grpc-tls-client-ca-file "$tls/authority.crt" --enable-health-check-https --enable-https \
    --https-cert-file "$tls/hub.crt" --https-key-file "$tls/hub.key"
  wait_for 60 'the hub to be ready by TLS' ready_by_tls_or_gone
  alive "$hub" || fail 'TLS: start' 'a hub that stays' 'it exited'
  ok 'TLS: /readyz by curl'
  secured -cacert "$tls/authority.crt" -cert "$tls/client.crt" -key "$tls/client.key"
  [[ $rc -eq 0 ]] && grep -qx "$SERVICE" "$work/secured" || fail 'TLS: grpcurl' "$SERVICE" "$(<"$work/secured")"
  ok 'TLS: grpcurl with a certificate'
  for version in --http1.1 --http2; do
    equal "TLS: the HTTP API by curl $version" 200 \
      "$(curl -sS -m 5 "$version" --cacert "$tls/authority.crt" -o /dev/null -w '%{http_code}' "https://localhost:$api_port/api/rh-trex")"
  done
  secured -cacert "$tls/authority.crt"
  [[ $rc -ne 0 ]] || fail 'TLS: no certificate' 'a refusal' "$(<"$work/secured")"
  ok 'TLS: without a certificate nobody gets in'
  secured -plaintext
  [[ $rc -ne 0 && $rc -ne 124 ]] || fail 'TLS: plain text' 'a refusal at once' "exit $rc: $(<"$work/secured")"
  ok 'TLS: plain text is refused'
  stop_hub
  equal 'TLS: the hub stops' 0 "$ended"
}
