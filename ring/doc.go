// Package ring decides which node owns a key, and what has to move when that
// changes. It is pure: values in, values out; no clock, no files, no sockets,
// no goroutines. The same code runs in every server, in the Go client and, as
// WebAssembly, in a browser tab, so that all of them agree without asking.
//
// # Placement
//
// The ring has the positions 0 to 2^32-1; after the highest comes 0 again. The
// position of a key is the first four bytes of its MD5 as a big-endian number.
// (MD5 is used to spread keys and for nothing else: it protects nothing here.)
//
// A node is named by its address, "host:port", compared byte by byte. It puts
// tokens on the ring: token 0 at the position of "host:port", token i at the
// position of "host:port#i". A token owns the range (previous token, token], so
// a key belongs to the first token at or after its position, clockwise. Where
// tokens of two nodes meet on one position, the smaller address has it. Nothing
// depends on the order in which nodes joined.
//
// It follows that adding or removing one of N nodes moves about 1/N of the ring,
// and nothing between two nodes that stay.
//
// # Topologies
//
// A [Topology] is what nodes and clients tell each other: cluster, epoch, nodes,
// and the ranges that still wait to be handed over to their new owner. Its text
// form is strict: each topology has exactly one text, and a parser of untrusted
// bytes that bounds every count before it allocates.
//
//	quoit-topology 1
//	cluster 6f1c2d0e
//	epoch 42
//	node 10.0.0.1:7401 128 ws=wss://eu.example.org/node/1
//	node 10.0.0.2:7401 0
//	held 1073741823 1090519039 10.0.0.2:7401
//	end
//
// Lines end with a line feed, fields are parted by one space, numbers are
// decimal without sign or leading zeros. The lines come in the order shown, node
// and held lines any number of times; held lines give start, end and owner of a
// range (start, end]. The last line proves that nothing is missing.
//
// # Concurrency
//
// Everything is a value, except [Map], which never changes once made: all of it
// may be read by any number of goroutines at the same time.
package ring
