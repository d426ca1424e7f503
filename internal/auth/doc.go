// Package auth says who is on a connection and what they may do.
//
// A Principal is one of four: open (nothing is configured and everything is allowed),
// anonymous (nothing has been proved yet), an application (it has shown a signed token
// with scopes), or a member (a node, the manager and others that have proved it by the
// cluster's secret or by a certificate). Authorize is the one table of what each of them
// may send; nodes, the manager and gateways ask it before they look at any data, so that
// a refusal is the same whether a key exists or not, here or elsewhere.
//
// # Tokens
//
// A token is a JSON Web Token, signed with EdDSA (Ed25519) or HS256:
//
//	header  {"alg":"EdDSA","kid":"2026-11","typ":"JWT"}
//	claims  {"sub":"shop","jti":"01J...","aud":"quoit","iat":…,"nbf":…,"exp":…,
//	         "quoit":{"scopes":[{"prefix":"cart:","access":"write"},{"key":"flags","access":"read"}],
//	                  "cluster":"read","connections":10,"rate":500}}
//
// kid, jti, aud and exp are required; exp and nbf are held to with Leeway. The key decides
// the algorithm, never the token: a public key is no HS256 secret. Everything in "quoit"
// that is not known is refused, for it may be a limit that this version does not keep.
//
// # Scopes
//
// A scope names one key, or a prefix, byte by byte, with access "read" or "write", which
// includes reading. A prefix is empty (every key) or ends in a byte that is neither an
// ASCII letter nor a digit, since user:1 would open user:10, too. Bytes that are not UTF-8
// stand in "key64" or "prefix64", as base64url without padding.
//
// # Keys
//
// Keys verifies tokens with a JSON Web Key Set from a file, which it looks at again. A key
// that is gone, or is another under the same kid, takes its tokens along at once, also those
// of connections that are open: Principal.Ended says so. A file that has become unreadable
// or wrong changes nothing.
//
// The package holds no connections and starts no goroutines by itself. A Principal never
// changes, apart from ending; it and Keys are safe for concurrent use. Questions about keys
// do not allocate; time is given to them, in unix milliseconds.
package auth
