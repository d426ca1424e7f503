package node

import "github.com/quoitdb/quoit/protocol"

func watch(_ *conn, args [][]byte) error {
	if _, err := protocol.ParseWatch(args); err != nil {
		return err
	}
	return &protocol.Error{Code: protocol.UNAVAILABLE, Message: "this node does not watch yet"}
}

// unwatch answers a connection that does not watch.
func unwatch(_ *conn, args [][]byte) error {
	if _, err := protocol.ParseUnwatch(args); err != nil {
		return err
	}
	return &protocol.Error{Code: protocol.ERR, Message: "UNWATCH: nothing is watched on this connection"}
}
