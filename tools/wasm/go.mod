module github.com/quoitdb/quoit/tools/wasm

go 1.26

require github.com/andybalholm/brotli v1.3.0
