//go:build !amd64

package md5lanes

const vectors = false

func block(*[lanes]uint32, *[16][lanes]uint32) {}
