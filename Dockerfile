# One image for every server and tool of Quoit; the command chooses: `node`, `manager`,
# `cluster status`. There is nothing in it but the binary: no shell, no libc, no
# packages to patch. Certificate roots and time are the binary's own.
#
#   task image        builds bin/image/quoit and this image as quoit:local
#
# The binary is built outside (static, for Linux), so the build needs neither a base
# image nor a network. By hand:
#
#   mkdir -p bin/image/volumes/{data,bucket}
#   go run -C tools/wasm .
#   CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags="-s -w" -o bin/image/quoit ./cmd/quoit
#   docker build -t quoit:local .
FROM scratch

LABEL org.opencontainers.image.title="quoit" \
      org.opencontainers.image.description="A sharded key-value store whose ranges move while it serves" \
      org.opencontainers.image.source="https://github.com/quoitdb/quoit" \
      org.opencontainers.image.licenses="Apache-2.0"

# Two empty folders to mount volumes on: /data for a node's log and identity, /bucket
# for a cluster whose bucket is a folder. A named volume takes their owner over, so
# that the process may write there although it is nobody in particular. They are not
# declared as volumes: that would leave a nameless one behind for each container.
COPY --chown=65532:65532 bin/image/volumes/ /

COPY bin/image/quoit /quoit

# A number, so that Kubernetes can see that it is not root.
USER 65532:65532

# Healthy is "the process works", also while it reads a long log: nobody should
# restart a node for that. `quoit healthcheck --ready` asks whether it serves.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/quoit", "healthcheck"]

ENTRYPOINT ["/quoit"]
