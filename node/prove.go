package node

import "github.com/quoitdb/quoit/protocol"

// noSecret is the answer to a member's proof where none is asked for.
func noSecret(cmd protocol.Command) error {
	return &protocol.Error{Code: protocol.ERR, Message: cmd.String() + ": this node has no cluster secret (QUOIT_CLUSTER_SECRET); talk to it without one"}
}

func challenge(_ *conn, args [][]byte) error {
	if _, err := protocol.ParseChallenge(args); err != nil {
		return err
	}
	return noSecret(protocol.CmdChallenge)
}

func prove(_ *conn, args [][]byte) error {
	if _, err := protocol.ParseProve(args); err != nil {
		return err
	}
	return noSecret(protocol.CmdProve)
}
