FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The registry and the target directory stay in the builder's cache, not in a
# layer: a changed source file compiles this crate and no dependency.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin trex && \
    install -D target/release/trex /out/trex

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin trex
COPY --from=build /out/trex /usr/local/bin/trex
USER 10001:10001
# No Postgres in this image: the hub takes a given server (DATABASE_URL).
# Loopback would be the container's own, so it binds to all its addresses; who
# may reach them is decided where the ports are published. In plain text the hub
# starts so only with TREX_INSECURE=true; else give it TLS (docs/security.md).
ENV TREX_GRPC_SERVER_BINDADDRESS=0.0.0.0:9000 \
    TREX_API_SERVER_BINDADDRESS=0.0.0.0:8000 \
    TREX_METRICS_SERVER_BINDADDRESS=0.0.0.0:8080 \
    TREX_HEALTH_CHECK_SERVER_BINDADDRESS=0.0.0.0:8083
EXPOSE 9000 8000 8080 8083
# Bash speaks enough HTTP to ask whether the hub is ready; nothing is installed for it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8083 && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]
ENTRYPOINT ["/usr/local/bin/trex"]
CMD ["serve"]
