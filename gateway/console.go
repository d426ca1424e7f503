package gateway

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quoitdb/quoit/internal/auth"
	"github.com/quoitdb/quoit/internal/config"
	"github.com/quoitdb/quoit/internal/discreet"
	"github.com/quoitdb/quoit/internal/peer"
	"github.com/quoitdb/quoit/protocol"
)

// Console is what a gateway shows to people, and lets them do.
type Console string

// What the console may be. The zero value decides by who can reach the gateway.
const (
	ConsoleOff     Console = "off"     // no page, no status
	ConsoleRead    Console = "read"    // the cluster is shown
	ConsoleOperate Console = "operate" // moves can be paused and resumed too
)

// UnmarshalText reads off, read or operate.
func (c *Console) UnmarshalText(text []byte) error {
	switch word := Console(text); word {
	case "", ConsoleOff, ConsoleRead, ConsoleOperate:
		*c = word
		return nil
	}
	return errors.New("want off, read or operate")
}

// console is the setting, or what stands for an empty one: operate where tokens say who
// may, or where only this machine can reach the gateway. Names and origins of its own mean that somebody
// else can, through what stands in front.
func (c *Config) console(addr string, asks bool) Console {
	switch {
	case c.Console != "":
		return c.Console
	case asks:
		return ConsoleOperate // what somebody may is in the token
	case config.Loopback(addr) && len(c.Hosts)+len(c.Origins) == 0:
		return ConsoleOperate
	}
	return ConsoleRead
}

const (
	// statusAge is how long a status is served before the manager is asked again.
	statusAge = time.Second
	// managerTime bounds the dialling of the manager and each of its answers.
	managerTime = 5 * time.Second
	// statusBytes bounds the manager's answer: tens of thousands of moves.
	statusBytes = 16 << 20
	// movesPath begins the paths that change something.
	movesPath = "/v1/moves/"
)

// console is what the page for people asks of the gateway by plain HTTP, beside its
// WebSockets: how the cluster does, and to pause its moves. One goroutine asks the
// manager and keeps the answer, so that any number of pages costs the manager one
// request a second, and none when nobody looks.
type console struct {
	gw        *Gateway
	may       Console
	version   string
	manager   *managerLink
	now       func() time.Time
	log       *slog.Logger
	questions chan question
	last      atomic.Pointer[sighting] // never nil
}

// question is what the manager is to be asked, if it has to be. Its answer has room
// for one, so that nobody waits for who has gone.
type question struct {
	verb   string
	token  []byte // of who asks, nil where nobody is asked for one
	answer chan error
}

// sighting is what the manager has said, and when.
type sighting struct {
	cluster json.RawMessage // nil until it has answered
	at      time.Time       // of cluster
	asked   time.Time       // the last time
	trouble string          // why there was no answer then
}

func (s *sighting) fresh(now time.Time) bool {
	return now.Sub(s.asked) < statusAge && !s.asked.IsZero()
}

func newConsole(g *Gateway, addr string) *console {
	c := &console{
		gw: g, may: g.config.console(addr, g.asks()), version: g.about.version, now: g.clock.now, log: g.log,
		manager: &managerLink{address: g.config.ManagerAddr, dial: g.dial}, questions: make(chan question),
	}
	c.last.Store(&sighting{})
	return c
}

// run answers questions until ctx ends.
func (c *console) run(ctx context.Context) {
	defer c.manager.hangUp()
	for {
		select {
		case q := <-c.questions:
			q.answer <- c.settle(ctx, q)
		case <-ctx.Done():
			return
		}
	}
}

// settle asks the manager for a change, or for its status if nobody has asked within
// a second. After a change the status is new too.
func (c *console) settle(ctx context.Context, q question) error {
	if q.verb != "STATUS" {
		if _, err := c.manager.cluster(ctx, q.token, q.verb); err != nil {
			return err
		}
		c.log.Info("operator", "command", q.verb)
	} else if c.last.Load().fresh(c.now()) {
		return nil
	}
	next := *c.last.Load()
	text, err := c.manager.cluster(ctx, q.token, "STATUS")
	if err == nil && !json.Valid(text) {
		err = errors.New("its status is no JSON")
	}
	next.asked, next.trouble = c.now(), ""
	if err != nil {
		next.trouble = fmt.Sprintf("the manager at %s does not answer: %v", c.manager.address, err)
	} else {
		next.cluster, next.at = text, next.asked
	}
	c.last.Store(&next)
	return nil
}

func (c *console) ask(ctx context.Context, token []byte, verb string) error {
	q := question{verb, token, make(chan error, 1)}
	select {
	case c.questions <- q:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-q.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// report is the body of /v1/status.
type report struct {
	Console Console `json:"console"`
	Version string  `json:"version"`
	// AgeMS is how old Cluster is, -1 if the manager has never answered.
	AgeMS   int64  `json:"age_ms"`
	Trouble string `json:"trouble,omitempty"`
	// Cluster is what the manager says to CLUSTER STATUS, null if it never has.
	Cluster json.RawMessage `json:"cluster"`
}

// serveStatus tells how the cluster does: 200 also with what was known a while ago,
// whose age is told; 503 where nothing ever was.
func (c *console) serveStatus(w http.ResponseWriter, r *http.Request) {
	if c.may == ConsoleOff {
		http.NotFound(w, r)
		return
	}
	token, ok := c.admits(w, r, auth.ClusterRead)
	if !ok {
		return
	}
	if !c.last.Load().fresh(c.now()) {
		_ = c.ask(r.Context(), token, "STATUS") // who has gone reads nothing
	}
	c.writeReport(w)
}

func (c *console) writeReport(w http.ResponseWriter) {
	s := c.last.Load()
	out := report{Console: c.may, Version: c.version, AgeMS: -1, Trouble: s.trouble, Cluster: s.cluster}
	status := http.StatusOK
	if s.cluster == nil {
		status = http.StatusServiceUnavailable
	} else {
		out.AgeMS = c.now().Sub(s.at).Milliseconds()
	}
	writeJSON(w, status, out)
}

// change is the handler for a verb of the manager that a page may say.
func (c *console) change(verb string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if status, why := c.refuses(r); why != "" {
			if status == http.StatusMethodNotAllowed {
				w.Header().Set("Allow", http.MethodPost)
			}
			writeProblem(w, status, why)
			return
		}
		token, ok := c.admits(w, r, auth.ClusterOperate)
		if !ok {
			return
		}
		err := c.ask(r.Context(), token, verb)
		switch {
		case err == nil:
			c.writeReport(w)
		case peer.Refused(err):
			writeProblem(w, http.StatusConflict, err.Error())
		default:
			writeProblem(w, http.StatusBadGateway, "the manager has not answered: it may have done it or not, so look before you try again: "+discreet.Text(err))
		}
	}
}

// admits says whether a request shows a token that is good for so much, and answers if it
// does not. The gateway has no power of its own: the token goes on to the manager, which
// looks at it again.
func (c *console) admits(w http.ResponseWriter, r *http.Request, least auth.ClusterAccess) (token []byte, ok bool) {
	if !c.gw.asks() {
		return nil, true
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || text == "" {
		c.gw.stats.noAuth.Add(1)
		unauthorized(w, "this needs a token: Authorization: Bearer and a token with access to the cluster, as quoit token create --cluster read makes it")
		return nil, false
	}
	who, refusal := c.gw.tokens.Verify([]byte(text), c.now(), r.RemoteAddr)
	if refusal != nil {
		unauthorized(w, refusal.Message)
		return nil, false
	}
	if who.Cluster() < least {
		c.gw.stats.noPerm.Add(1)
		writeProblem(w, http.StatusForbidden, `this needs a token with access to the cluster ("`+least.String()+`")`)
		return nil, false
	}
	return []byte(text), true
}

// unauthorized is the answer to who has no token, or none that is good.
func unauthorized(w http.ResponseWriter, why string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="quoit"`)
	writeProblem(w, http.StatusUnauthorized, why)
}

// refuses says why a request for a change is refused. The guard has compared Host and
// Origin before; but where reading needs no Origin, this does: no form of another
// page and no link gets here, nor does JSON without the browser asking first.
func (c *console) refuses(r *http.Request) (status int, why string) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case c.may == ConsoleOff:
		return http.StatusNotFound, "there is no console here"
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, "only POST"
	case c.may != ConsoleOperate:
		return http.StatusForbidden, "this gateway shows the cluster and changes nothing; QUOIT_GATEWAY_CONSOLE=operate would let its page pause and resume moves"
	case len(r.Header["Origin"]) == 0:
		return http.StatusForbidden, "only a page may ask for this, and its Origin is missing; programs ask the manager, as quoit cluster does"
	case kind != "application/json":
		return http.StatusUnsupportedMediaType, "the Content-Type has to be application/json"
	}
	return 0, ""
}

// pages leaves out what the console is made of, where there is none.
func (c *console) pages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		page := path == "/" || path == "/index.html" || strings.HasPrefix(path, "/console/") || strings.HasPrefix(path, "/todo/")
		if page && c.may == ConsoleOff {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func writeProblem(w http.ResponseWriter, status int, why string) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{why})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // to a client that has gone, or valid as it was checked
}

// managerLink is a connection to the manager, made when it is needed. One goroutine
// at a time.
type managerLink struct {
	address string
	dial    peer.Dialer
	conn    *peer.Conn // nil while there is none
	detach  func() bool
	shown   []byte // the token with which it was opened
}

// cluster sends CLUSTER verb with somebody's token, and returns the answer's bytes. A
// connection that was open before may have been closed by the other side meanwhile: then
// it tries a new one, as all that is asked here may be done twice.
func (m *managerLink) cluster(ctx context.Context, token []byte, verb string) ([]byte, error) {
	if subtle.ConstantTimeCompare(m.shown, token) == 0 {
		m.hangUp() // it speaks for somebody else
	}
	for {
		kept := m.conn != nil
		err := m.connect(ctx, token)
		if err != nil {
			return nil, err
		}
		r, err := m.conn.DoStrings(protocol.CmdCluster.String(), verb)
		if err == nil {
			return append([]byte(nil), r.Bytes...), nil
		}
		if peer.Refused(err) {
			return nil, err
		}
		m.hangUp()
		if !kept || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (m *managerLink) connect(ctx context.Context, token []byte) error {
	if m.conn != nil {
		return nil
	}
	conn, err := peer.Dial(ctx, m.dial, m.address, managerTime)
	if err != nil {
		return err
	}
	limits := protocol.DefaultLimits()
	limits.MaxValue = statusBytes
	conn.Limit(limits)
	m.conn, m.detach, m.shown = conn, context.AfterFunc(ctx, func() { _ = conn.Close() }), token
	if token == nil {
		return nil
	}
	_, err = conn.DoStrings(protocol.CmdAuth.String(), string(token))
	var refusal *protocol.Error
	if errors.As(err, &refusal) && refusal.AsksNobody() {
		return nil
	}
	if err != nil {
		m.hangUp()
	}
	return err
}

func (m *managerLink) hangUp() {
	if m.conn != nil {
		m.detach()
		_ = m.conn.Close()
		m.conn, m.shown = nil, nil
	}
}
