package gateway

import (
	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/protocol"
	"github.com/quoitdb/quoit/ring"
)

// whole answers what is about all keys of the cluster.
func (v *visitor) whole(cmd protocol.Command, args [][]byte) {
	db, err := v.db()
	if err != nil {
		v.refuse(refusalOf(err))
		return
	}
	if cmd == protocol.CmdScan {
		err = v.scan(db, args)
	} else {
		err = v.size(db)
	}
	if err != nil {
		v.refuse(err.(*protocol.Error)) //nolint:errorlint,forcetypeassert // both make nothing else
	}
}

func (v *visitor) size(db *client.Client) error {
	n, err := db.Count(v.ctx)
	if err != nil {
		return refusalOf(err)
	}
	v.reserve(32)
	v.out = protocol.AppendInt(v.out, n)
	return nil
}

const (
	// scanBytes ends a page of long keys early.
	scanBytes = 256 << 10
	// scanWork ends a page whose keys are slow to match, in bytes of pattern times
	// bytes of key.
	scanWork = 16 << 20
)

// scan walks the keys of all nodes in ring order. The cursor is the position to go
// on at, so that it means the same at every gateway, and whatever moves meanwhile.
// COUNT is how many keys are looked at, not how many match.
func (v *visitor) scan(db *client.Client, args [][]byte) error {
	in, err := protocol.ParseScan(args)
	if err != nil {
		return protocol.AsError(err)
	}
	if in.Cursor > uint64(ring.MaxPosition) {
		return &protocol.Error{Code: protocol.ERR, Message: "invalid cursor; begin with 0 and go on with what SCAN answered"}
	}
	var keys []byte
	found, seen, work, next := 0, 0, scanWork, uint64(0)
	at := ring.Position(in.Cursor)
	for e, err := range db.Scan(v.ctx, client.ScanOptions{Start: at, Count: in.Count}) {
		if err != nil {
			return refusalOf(err)
		}
		// All keys of a position are in one page: a cursor cannot point between them.
		if e.Position != at && seen > 0 && (seen >= in.Count || len(keys) >= scanBytes || work <= 0) {
			next = uint64(e.Position)
			break
		}
		at = e.Position
		seen++
		if in.Match != nil {
			work -= len(in.Match) * len(e.Key)
			if !protocol.Match(in.Match, []byte(e.Key)) {
				continue
			}
		}
		keys = protocol.AppendBulkString(keys, e.Key)
		found++
	}
	v.reserve(64)
	v.out = protocol.AppendArray(v.out, 2)
	v.out = protocol.AppendBulkUint(v.out, next)
	v.out = protocol.AppendArray(v.out, found)
	v.flush()
	v.write(keys)
	return nil
}
