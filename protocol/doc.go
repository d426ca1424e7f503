// Package protocol is the text protocol of Quoit as values and bytes: a dialect
// of RESP2 that also takes plain text lines, so that a person with nc, redis-cli
// and every Redis library can speak it.
//
// It promises
//
//   - to be pure: no sockets, files, clocks, goroutines or logging, and nothing
//     that is not in the standard library. Bytes come in, values go out.
//   - to allocate nothing for a request, nor for a reply once its buffers have
//     grown; what a parser returns aliases the bytes it was given and is valid
//     until its next call.
//   - to compare every declared size with a limit before it is added to
//     anything, allocated or looped over, and never to panic.
//   - that it does not matter how the bytes arrive: fed byte by byte or all at
//     once, the requests and the error at their end are the same.
//
// It does not know who owns a key, what a command does or when a reply is due.
//
// # Requests
//
// A request is one of
//
//	PUT user:1 "hello world"\r\n                       a line; LF alone will do
//	*3\r\n$3\r\nPUT\r\n$6\r\nuser:1\r\n$5\r\nhello\r\n  an array of bulk strings
//
// RequestParser takes one from the start of a buffer, Lookup names the command,
// Limits.Check looks at the number and the sizes of the arguments, and a Parse
// function for each command with options turns them into a struct.
//
// # Replies
//
// Append functions write them, ReplyParser reads them:
//
//	+OK\r\n   -CODE message\r\n   :42\r\n   $5\r\nhello\r\n   $-1\r\n   *2\r\n...
//
// # Concurrency
//
// A parser belongs to one connection and is not safe for concurrent use. All
// else is functions of their arguments, and safe.
//
// The page docs/protocol.md is the reference for people who write a client.
package protocol
