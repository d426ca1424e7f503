//go:build !js

package ring

import "crypto/md5" // Placement only, never integrity; see the package comment.

// headOfMD5 is the first four bytes of the MD5 of data, the first one highest.
func headOfMD5(data []byte) uint32 {
	sum := md5.Sum(data)
	return uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
}
