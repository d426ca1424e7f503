// Package border is what stands between JavaScript and the client, as plain Go: bytes
// come in, bytes go out, and neither side sees the other's values. wasmclient connects
// it to a browser; the tests here connect it to nothing, and run anywhere.
//
// A call is one message, and its answer is one message. Their fields have no names and
// no types, so both sides read what they wrote in the same order:
//
//	u8, u32, f64      little endian
//	bytes             u32 length, and so many bytes; strings are UTF-8
//
//	request           u8 op, u32 database, f64 timeout in milliseconds (0: none), then what the op takes
//	answer            what the op gives, or an error: see appendError
//
// The value of a put comes beside the request, and that of a get is the whole answer:
// large ones are copied once each way. Ops and their fields are in calls.go and in
// web/quoit.js; [Version] is counted up when either changes, and quoit.js refuses to
// work with another.
//
// # What it promises
//
//   - Nothing blocks the caller: Call takes what it needs from its arguments, starts a
//     goroutine and returns. Each call is settled exactly once.
//   - A panic in a call is that call's error, and one in a goroutine of this package an
//     event.
//   - When close has been settled, all goroutines and sockets of the database are gone.
package border

// Version is that of the messages.
const Version = 2
