package protocol

// AuthArgs is AUTH taken apart.
type AuthArgs struct {
	User     []byte // nil: not given
	Password []byte
}

// ParseAuth parses AUTH [user] password.
func ParseAuth(args [][]byte) (AuthArgs, error) {
	switch len(args) {
	case 2:
		return AuthArgs{Password: args[1]}, nil
	case 3:
		return AuthArgs{User: args[1], Password: args[2]}, nil
	default:
		return AuthArgs{}, WrongArity(CmdAuth)
	}
}

// HelloArgs is HELLO taken apart.
type HelloArgs struct {
	Auth    AuthArgs
	HasAuth bool
	Name    []byte // nil: not given
}

// ProtocolVersion is the only version that HELLO agrees to.
const ProtocolVersion = 2

// ParseHello parses HELLO. A version that is not spoken is NOPROTO, upon which
// clients fall back to the version that is.
func ParseHello(args [][]byte) (HelloArgs, error) {
	var hello HelloArgs
	if len(args) < 2 {
		return hello, nil
	}
	version, ok := ParseInt(args[1])
	if !ok {
		return HelloArgs{}, &Error{Code: ERR, Message: "Protocol version is not an integer or out of range"}
	}
	if version != ProtocolVersion {
		return HelloArgs{}, &Error{Code: NOPROTO, Message: "unsupported protocol version; this server speaks 2"}
	}
	for rest := args[2:]; len(rest) > 0; {
		switch {
		case isWord(rest[0], "auth") && len(rest) >= 3:
			hello.HasAuth, hello.Auth = true, AuthArgs{User: rest[1], Password: rest[2]}
			rest = rest[3:]
		case isWord(rest[0], "setname") && len(rest) >= 2:
			if err := checkClientName(rest[1]); err != nil {
				return HelloArgs{}, err
			}
			hello.Name = rest[1]
			rest = rest[2:]
		default:
			return HelloArgs{}, syntaxError(CmdHello)
		}
	}
	return hello, nil
}

// ParsePing parses PING; message is nil when none was given.
func ParsePing(args [][]byte) (message []byte, err error) {
	switch len(args) {
	case 1:
		return nil, nil
	case 2:
		return args[1], nil
	default:
		return nil, WrongArity(CmdPing)
	}
}

// ParseSelect parses SELECT: there is only database 0.
func ParseSelect(args [][]byte) error {
	if !CmdSelect.takes(args) {
		return WrongArity(CmdSelect)
	}
	if string(args[1]) != "0" {
		return &Error{Code: ERR, Message: "there is only database 0; use key prefixes to keep things apart"}
	}
	return nil
}

// ClientVerb is a subcommand of CLIENT.
type ClientVerb uint8

// The subcommands of CLIENT.
const (
	ClientID ClientVerb = iota + 1
	ClientGetName
	ClientSetName
	ClientSetInfo
	ClientPark
)

// ClientArgs is CLIENT taken apart.
type ClientArgs struct {
	Verb      ClientVerb
	Attribute string // of ClientSetInfo: "lib-name" or "lib-ver"
	Park      bool   // of ClientPark
	Value     []byte // of ClientSetName and ClientSetInfo
}

// ParseClient parses CLIENT.
func ParseClient(args [][]byte) (ClientArgs, error) {
	switch {
	case !CmdClient.takes(args):
		return ClientArgs{}, WrongArity(CmdClient)
	case isWord(args[1], "id") && len(args) == 2:
		return ClientArgs{Verb: ClientID}, nil
	case isWord(args[1], "getname") && len(args) == 2:
		return ClientArgs{Verb: ClientGetName}, nil
	case isWord(args[1], "setname") && len(args) == 3:
		return namedClient(ClientArgs{Verb: ClientSetName, Value: args[2]})
	case isWord(args[1], "setinfo") && len(args) == 4 && isWord(args[2], "lib-name"):
		return namedClient(ClientArgs{Verb: ClientSetInfo, Attribute: "lib-name", Value: args[3]})
	case isWord(args[1], "setinfo") && len(args) == 4 && isWord(args[2], "lib-ver"):
		return namedClient(ClientArgs{Verb: ClientSetInfo, Attribute: "lib-ver", Value: args[3]})
	case isWord(args[1], "park") && len(args) == 3 && (isWord(args[2], "on") || isWord(args[2], "off")):
		return ClientArgs{Verb: ClientPark, Park: isWord(args[2], "on")}, nil
	default:
		return ClientArgs{}, syntaxError(CmdClient)
	}
}

func namedClient(client ClientArgs) (ClientArgs, error) {
	if err := checkClientName(client.Value); err != nil {
		return ClientArgs{}, err
	}
	return client, nil
}

// checkClientName keeps names to what can be shown in one column of a list. An
// empty name takes the name away.
func checkClientName(name []byte) error {
	const maxClientName = 128
	if len(name) > maxClientName || !isGraphic(name) {
		return &Error{Code: ERR, Message: "a client name is up to 128 printable characters without spaces"}
	}
	return nil
}

// isGraphic says whether all bytes are printable ASCII and none is a space.
func isGraphic(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// ParseConfig parses CONFIG GET and gives its patterns, for Match.
func ParseConfig(args [][]byte) (patterns [][]byte, err error) {
	if !CmdConfig.takes(args) {
		return nil, WrongArity(CmdConfig)
	}
	if !isWord(args[1], "get") {
		return nil, &Error{Code: ERR, Message: "CONFIG has only GET; servers are configured by environment variables when they start"}
	}
	for _, pattern := range args[2:] {
		if len(pattern) > MaxPattern {
			return nil, tooLarge("pattern", len(pattern), MaxPattern)
		}
	}
	return args[2:], nil
}
