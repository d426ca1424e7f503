package ring

import "math/bits"

// portableHeadOfMD5 is what headOfMD5 is in a browser. The standard library's MD5
// brings half of its cryptography and a file system along, 75 kB of a page's first
// load; this is RFC 1321, and the tests compare the two.
func portableHeadOfMD5(data []byte) uint32 {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	rest := data
	for ; len(rest) >= md5BlockSize; rest = rest[md5BlockSize:] {
		md5Block(&state, rest[:md5BlockSize])
	}
	var tail [2 * md5BlockSize]byte
	n := copy(tail[:], rest)
	tail[n] = 0x80
	end := md5BlockSize
	if n+1+8 > md5BlockSize {
		end = len(tail)
	}
	for i := range 8 {
		tail[end-8+i] = byte(uint64(len(data)) << 3 >> (8 * i))
	}
	for block := tail[:end]; len(block) > 0; block = block[md5BlockSize:] {
		md5Block(&state, block[:md5BlockSize])
	}
	return bits.ReverseBytes32(state[0])
}

const md5BlockSize = 64

// md5Block takes one block in: four rounds of sixteen steps.
func md5Block(state *[4]uint32, block []byte) {
	var words [16]uint32
	for i := range words {
		words[i] = uint32(block[4*i]) | uint32(block[4*i+1])<<8 | uint32(block[4*i+2])<<16 | uint32(block[4*i+3])<<24
	}
	a, b, c, d := state[0], state[1], state[2], state[3]
	for i := range md5BlockSize {
		var mix uint32
		var word int
		switch i >> 4 {
		case 0:
			mix, word = b&c|^b&d, i
		case 1:
			mix, word = d&b|^d&c, (5*i+1)&15
		case 2:
			mix, word = b^c^d, (3*i+5)&15
		default:
			mix, word = c^(b|^d), 7*i&15
		}
		sum := a + mix + md5Sines[i] + words[word]
		a, b, c, d = d, b+bits.RotateLeft32(sum, int(md5Shifts[i>>4][i&3])), b, c
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}

// md5Shifts are the rotations of the four rounds, md5Sines the constants of the 64
// steps: 2^32 times the sine of the step's number. Neither is ever written to.
var (
	md5Shifts = [4][4]uint8{{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}
	md5Sines  = [md5BlockSize]uint32{
		0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
		0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
		0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
		0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
		0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
		0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
		0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
		0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
	}
)
