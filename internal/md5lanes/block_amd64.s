#include "textflag.h"

// Eight lanes of MD5 (RFC 1321), one in each 32-bit element of the registers:
// Y0..Y3 are a, b, c, d; DI points to the message words of all lanes, one vector
// for each word; SI to the constants. Y4, Y5 are scratch, Y6 is all ones.

// STEP finishes a = b + rotate(a + f + word + constant, shift) with f in Y4.
// The sum of what is known early is made first: it is not on the critical path.
#define STEP(a, b, word, constant, shift) \
	VPADDD       Y4, a, a; \
	VPSLLD       $shift, a, Y4; \
	VPSRLD       $(32-shift), a, a; \
	VPOR         Y4, a, a; \
	VPADDD       b, a, a

#define EARLY(a, word, constant) \
	VPBROADCASTD (4*constant)(SI), Y5; \
	VPADDD       (32*word)(DI), a, a; \
	VPADDD       Y5, a, a

// f = d ^ (b & (c ^ d))
#define F(a, b, c, d, word, constant, shift) \
	EARLY(a, word, constant); \
	VPXOR c, d, Y4; \
	VPAND b, Y4, Y4; \
	VPXOR d, Y4, Y4; \
	STEP(a, b, word, constant, shift)

// f = (b & d) + (c &^ d): no bit is in both, so the sum of the two is made in
// two steps, of which the one without b is early.
#define G(a, b, c, d, word, constant, shift) \
	EARLY(a, word, constant); \
	VPANDN c, d, Y4; \
	VPADDD Y4, a, a; \
	VPAND  b, d, Y4; \
	STEP(a, b, word, constant, shift)

// f = b ^ c ^ d
#define H(a, b, c, d, word, constant, shift) \
	EARLY(a, word, constant); \
	VPXOR c, d, Y4; \
	VPXOR b, Y4, Y4; \
	STEP(a, b, word, constant, shift)

// f = c ^ (b | ^d)
#define I(a, b, c, d, word, constant, shift) \
	EARLY(a, word, constant); \
	VPXOR Y6, d, Y4; \
	VPOR  b, Y4, Y4; \
	VPXOR c, Y4, Y4; \
	STEP(a, b, word, constant, shift)

DATA k<>+0(SB)/4, $0xd76aa478
DATA k<>+4(SB)/4, $0xe8c7b756
DATA k<>+8(SB)/4, $0x242070db
DATA k<>+12(SB)/4, $0xc1bdceee
DATA k<>+16(SB)/4, $0xf57c0faf
DATA k<>+20(SB)/4, $0x4787c62a
DATA k<>+24(SB)/4, $0xa8304613
DATA k<>+28(SB)/4, $0xfd469501
DATA k<>+32(SB)/4, $0x698098d8
DATA k<>+36(SB)/4, $0x8b44f7af
DATA k<>+40(SB)/4, $0xffff5bb1
DATA k<>+44(SB)/4, $0x895cd7be
DATA k<>+48(SB)/4, $0x6b901122
DATA k<>+52(SB)/4, $0xfd987193
DATA k<>+56(SB)/4, $0xa679438e
DATA k<>+60(SB)/4, $0x49b40821
DATA k<>+64(SB)/4, $0xf61e2562
DATA k<>+68(SB)/4, $0xc040b340
DATA k<>+72(SB)/4, $0x265e5a51
DATA k<>+76(SB)/4, $0xe9b6c7aa
DATA k<>+80(SB)/4, $0xd62f105d
DATA k<>+84(SB)/4, $0x02441453
DATA k<>+88(SB)/4, $0xd8a1e681
DATA k<>+92(SB)/4, $0xe7d3fbc8
DATA k<>+96(SB)/4, $0x21e1cde6
DATA k<>+100(SB)/4, $0xc33707d6
DATA k<>+104(SB)/4, $0xf4d50d87
DATA k<>+108(SB)/4, $0x455a14ed
DATA k<>+112(SB)/4, $0xa9e3e905
DATA k<>+116(SB)/4, $0xfcefa3f8
DATA k<>+120(SB)/4, $0x676f02d9
DATA k<>+124(SB)/4, $0x8d2a4c8a
DATA k<>+128(SB)/4, $0xfffa3942
DATA k<>+132(SB)/4, $0x8771f681
DATA k<>+136(SB)/4, $0x6d9d6122
DATA k<>+140(SB)/4, $0xfde5380c
DATA k<>+144(SB)/4, $0xa4beea44
DATA k<>+148(SB)/4, $0x4bdecfa9
DATA k<>+152(SB)/4, $0xf6bb4b60
DATA k<>+156(SB)/4, $0xbebfbc70
DATA k<>+160(SB)/4, $0x289b7ec6
DATA k<>+164(SB)/4, $0xeaa127fa
DATA k<>+168(SB)/4, $0xd4ef3085
DATA k<>+172(SB)/4, $0x04881d05
DATA k<>+176(SB)/4, $0xd9d4d039
DATA k<>+180(SB)/4, $0xe6db99e5
DATA k<>+184(SB)/4, $0x1fa27cf8
DATA k<>+188(SB)/4, $0xc4ac5665
DATA k<>+192(SB)/4, $0xf4292244
DATA k<>+196(SB)/4, $0x432aff97
DATA k<>+200(SB)/4, $0xab9423a7
DATA k<>+204(SB)/4, $0xfc93a039
DATA k<>+208(SB)/4, $0x655b59c3
DATA k<>+212(SB)/4, $0x8f0ccc92
DATA k<>+216(SB)/4, $0xffeff47d
DATA k<>+220(SB)/4, $0x85845dd1
DATA k<>+224(SB)/4, $0x6fa87e4f
DATA k<>+228(SB)/4, $0xfe2ce6e0
DATA k<>+232(SB)/4, $0xa3014314
DATA k<>+236(SB)/4, $0x4e0811a1
DATA k<>+240(SB)/4, $0xf7537e82
DATA k<>+244(SB)/4, $0xbd3af235
DATA k<>+248(SB)/4, $0x2ad7d2bb
DATA k<>+252(SB)/4, $0xeb86d391
GLOBL k<>(SB), RODATA|NOPTR, $256

// func block(first *[8]uint32, words *[16][8]uint32)
TEXT ·block(SB), NOSPLIT, $0-16
	MOVQ     words+8(FP), DI
	LEAQ     k<>(SB), SI
	VPCMPEQD Y6, Y6, Y6

	MOVL         $0x67452301, AX
	VMOVD        AX, X0
	VPBROADCASTD X0, Y0
	MOVL         $0xefcdab89, AX
	VMOVD        AX, X1
	VPBROADCASTD X1, Y1
	MOVL         $0x98badcfe, AX
	VMOVD        AX, X2
	VPBROADCASTD X2, Y2
	MOVL         $0x10325476, AX
	VMOVD        AX, X3
	VPBROADCASTD X3, Y3

	F(Y0, Y1, Y2, Y3, 0, 0, 7)
	F(Y3, Y0, Y1, Y2, 1, 1, 12)
	F(Y2, Y3, Y0, Y1, 2, 2, 17)
	F(Y1, Y2, Y3, Y0, 3, 3, 22)
	F(Y0, Y1, Y2, Y3, 4, 4, 7)
	F(Y3, Y0, Y1, Y2, 5, 5, 12)
	F(Y2, Y3, Y0, Y1, 6, 6, 17)
	F(Y1, Y2, Y3, Y0, 7, 7, 22)
	F(Y0, Y1, Y2, Y3, 8, 8, 7)
	F(Y3, Y0, Y1, Y2, 9, 9, 12)
	F(Y2, Y3, Y0, Y1, 10, 10, 17)
	F(Y1, Y2, Y3, Y0, 11, 11, 22)
	F(Y0, Y1, Y2, Y3, 12, 12, 7)
	F(Y3, Y0, Y1, Y2, 13, 13, 12)
	F(Y2, Y3, Y0, Y1, 14, 14, 17)
	F(Y1, Y2, Y3, Y0, 15, 15, 22)

	G(Y0, Y1, Y2, Y3, 1, 16, 5)
	G(Y3, Y0, Y1, Y2, 6, 17, 9)
	G(Y2, Y3, Y0, Y1, 11, 18, 14)
	G(Y1, Y2, Y3, Y0, 0, 19, 20)
	G(Y0, Y1, Y2, Y3, 5, 20, 5)
	G(Y3, Y0, Y1, Y2, 10, 21, 9)
	G(Y2, Y3, Y0, Y1, 15, 22, 14)
	G(Y1, Y2, Y3, Y0, 4, 23, 20)
	G(Y0, Y1, Y2, Y3, 9, 24, 5)
	G(Y3, Y0, Y1, Y2, 14, 25, 9)
	G(Y2, Y3, Y0, Y1, 3, 26, 14)
	G(Y1, Y2, Y3, Y0, 8, 27, 20)
	G(Y0, Y1, Y2, Y3, 13, 28, 5)
	G(Y3, Y0, Y1, Y2, 2, 29, 9)
	G(Y2, Y3, Y0, Y1, 7, 30, 14)
	G(Y1, Y2, Y3, Y0, 12, 31, 20)

	H(Y0, Y1, Y2, Y3, 5, 32, 4)
	H(Y3, Y0, Y1, Y2, 8, 33, 11)
	H(Y2, Y3, Y0, Y1, 11, 34, 16)
	H(Y1, Y2, Y3, Y0, 14, 35, 23)
	H(Y0, Y1, Y2, Y3, 1, 36, 4)
	H(Y3, Y0, Y1, Y2, 4, 37, 11)
	H(Y2, Y3, Y0, Y1, 7, 38, 16)
	H(Y1, Y2, Y3, Y0, 10, 39, 23)
	H(Y0, Y1, Y2, Y3, 13, 40, 4)
	H(Y3, Y0, Y1, Y2, 0, 41, 11)
	H(Y2, Y3, Y0, Y1, 3, 42, 16)
	H(Y1, Y2, Y3, Y0, 6, 43, 23)
	H(Y0, Y1, Y2, Y3, 9, 44, 4)
	H(Y3, Y0, Y1, Y2, 12, 45, 11)
	H(Y2, Y3, Y0, Y1, 15, 46, 16)
	H(Y1, Y2, Y3, Y0, 2, 47, 23)

	I(Y0, Y1, Y2, Y3, 0, 48, 6)
	I(Y3, Y0, Y1, Y2, 7, 49, 10)
	I(Y2, Y3, Y0, Y1, 14, 50, 15)
	I(Y1, Y2, Y3, Y0, 5, 51, 21)
	I(Y0, Y1, Y2, Y3, 12, 52, 6)
	I(Y3, Y0, Y1, Y2, 3, 53, 10)
	I(Y2, Y3, Y0, Y1, 10, 54, 15)
	I(Y1, Y2, Y3, Y0, 1, 55, 21)
	I(Y0, Y1, Y2, Y3, 8, 56, 6)
	I(Y3, Y0, Y1, Y2, 15, 57, 10)
	I(Y2, Y3, Y0, Y1, 6, 58, 15)
	I(Y1, Y2, Y3, Y0, 13, 59, 21)
	I(Y0, Y1, Y2, Y3, 4, 60, 6)
	I(Y3, Y0, Y1, Y2, 11, 61, 10)
	I(Y2, Y3, Y0, Y1, 2, 62, 15)
	I(Y1, Y2, Y3, Y0, 9, 63, 21)

	MOVL         $0x67452301, AX
	VMOVD        AX, X4
	VPBROADCASTD X4, Y4
	VPADDD       Y4, Y0, Y0
	MOVQ         first+0(FP), DI
	VMOVDQU      Y0, (DI)
	VZEROUPPER
	RET
