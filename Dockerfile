# syntax=docker/dockerfile:1
# The three published images, for those who have Docker (the tests make theirs without it):
#
#   docker build --target server    -t ghcr.io/tremolosecurity/kube-sts-server:0.1.0 .
#   docker build --target injector  -t ghcr.io/tremolosecurity/kube-sts-injector:0.1.0 .
#   docker build --target refresher -t ghcr.io/tremolosecurity/kube-sts-refresher:0.1.0 .

# Compiled as the images of the tests and benchmarks are (xtask/src/image/recipes.rs), on the same system: linked statically against
# glibc. Program by program: built together, each would have the features of all.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
# docs/decisions/0008-random-numbers-from-the-kernel.md
ENV AWS_LC_SYS_NO_JITTER_ENTROPY=1
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY tests tests
COPY xtask xtask
# With the target named, the flags are for the programs alone, and not for what runs while they are compiled.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(uname -m)-unknown-linux-gnu" \
 && export RUSTFLAGS="-Ctarget-feature=+crt-static" \
 && cargo build --locked --target "$target" --profile dist -p sts-server \
 && cargo build --locked --target "$target" --profile dist -p injector \
 && RUSTFLAGS="$RUSTFLAGS -Cforce-unwind-tables=no -Clink-arg=-Wl,-z,pack-relative-relocs" \
    cargo build --locked --target "$target" --profile sidecar -p refresher \
 && mkdir /out \
 && cp "target/$target/dist/sts-server" "target/$target/dist/injector" "target/$target/sidecar/refresher" /out/

# Nothing but the program. The uid is a number, so that the kubelet can see that it is not root.
FROM scratch AS server
LABEL org.opencontainers.image.title="kube-sts-server" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/sts-server /sts-server
USER 65532:65532
ENTRYPOINT ["/sts-server"]

FROM scratch AS injector
LABEL org.opencontainers.image.title="kube-sts-injector" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/injector /injector
USER 65532:65532
ENTRYPOINT ["/injector"]

FROM scratch AS refresher
LABEL org.opencontainers.image.title="kube-sts-refresher" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/refresher /refresher
USER 65532:65532
ENTRYPOINT ["/refresher"]
