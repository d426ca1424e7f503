package snapshot

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/quoitdb/quoit/ring"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// What a node has in the bucket:
//
//	nodes/<name>/head.json                        the only object that changes
//	nodes/<name>/manifests/<sequence>-<nonce>     20 digits, so that they list in order
//	nodes/<name>/parts/<snapshot>-<number>
//	nodes/<name>/log/<incarnation>-<from>-<to>    20 digits each
const nodesPrefix = "nodes/"

// maxName is the longest encoded address: one part of a key.
const maxName = bucket.MaxSegmentLength

// NodeName encodes an address as a part of a key, so that no two addresses have
// one name: lower-case letters, digits, '-' and '.' stand for themselves, "__" for
// a colon, and '_' with two hexadecimal digits for every other byte.
//
//	10.0.0.1:7401    10.0.0.1__7401
//	[::1]:7401       _5b____1_5d__7401
func NodeName(address string) (string, error) {
	if err := ring.ValidateAddress(address); err != nil {
		return "", err
	}
	var b strings.Builder
	for i, c := range []byte(address) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.' && i > 0:
			b.WriteByte(c)
		case c == ':':
			b.WriteString("__")
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	if b.Len() > maxName {
		return "", fmt.Errorf("%w: address %q takes %d characters as a part of a key, want at most %d: use a shorter host name",
			bucket.ErrInvalidKey, address, b.Len(), maxName)
	}
	return b.String(), nil
}

// ParseNodeName returns the address that NodeName has encoded.
func ParseNodeName(name string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c != '_':
		case strings.HasPrefix(name[i:], "__"):
			c = ':'
			i++
		default:
			if _, err := fmt.Sscanf(name[i+1:min(i+3, len(name))], "%02x", &c); err != nil {
				return "", fmt.Errorf("%.80q is not the name of a node in a bucket", name)
			}
			i += 2
		}
		b.WriteByte(c)
	}
	// Only one name stands for an address.
	if again, err := NodeName(b.String()); err != nil || again != name {
		return "", fmt.Errorf("%.80q is not the name of a node in a bucket", name)
	}
	return b.String(), nil
}

// Nodes yields the addresses of the nodes that have objects in the bucket, by one
// listing for each: for people who look, not for programs that decide.
func Nodes(ctx context.Context, b bucket.Bucket) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for after := ""; ; {
			name, err := nextNode(ctx, b, after)
			if err != nil {
				yield("", err)
				return
			}
			if name == "" {
				return
			}
			after = nodesPrefix + name + "/~" // Behind every key of the node: '~' is in none.
			address, err := ParseNodeName(name)
			if err != nil {
				continue // Not one of ours.
			}
			if !yield(address, nil) {
				return
			}
		}
	}
}

// nextNode returns the name in the first key behind after.
func nextNode(ctx context.Context, b bucket.Bucket, after string) (string, error) {
	for info, err := range b.List(ctx, nodesPrefix, after) {
		if err != nil {
			return "", err
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(info.Key, nodesPrefix), "/")
		return name, nil
	}
	return "", nil
}

// keys makes the keys of one node.
type keys struct{ prefix string }

func keysOf(address string) (keys, error) {
	name, err := NodeName(address)
	return keys{nodesPrefix + name + "/"}, err
}

func (k keys) head() string { return k.prefix + "head.json" }

func (k keys) manifest(sequence uint64, nonce string) string {
	return fmt.Sprintf("%smanifests/%020d-%s", k.prefix, sequence, nonce)
}

func (k keys) part(id ID, number uint32) string {
	return fmt.Sprintf("%sparts/%s-%d", k.prefix, id, number)
}

func (k keys) log(incarnation, from, to uint64) string {
	return fmt.Sprintf("%slog/%020d-%020d-%020d", k.prefix, incarnation, from, to)
}
