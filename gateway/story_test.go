package gateway

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/quoitdb/quoit/client"
	"github.com/quoitdb/quoit/internal/auth"
)

// TestOneTokenByThreeWays: a Go client at the nodes, a stock Redis client at the door and
// a page on a channel may the same with the same token, and see what the others do.
func TestOneTokenByThreeWays(t *testing.T) {
	t.Parallel()
	cluster, g, i := guarded(t, 2, options{})
	ctx, token := t.Context(), i.token(nil, "cart:")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := client.Open(ctx, cluster.Addresses(), client.WithToken(client.TokenFile(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	shop := redis.NewClient(&redis.Options{Addr: g.RedisAddr(), Password: token, Protocol: 2})
	defer shop.Close()
	page := g.channel(program.Owner("cart:1"))
	if got := page.do("AUTH", token); got != "+OK" {
		t.Fatal(got)
	}

	if err := program.Put(ctx, "cart:1", []byte("a pear")); err != nil {
		t.Fatal(err)
	}
	if err := shop.Append(ctx, "cart:1", ", a plum").Err(); err != nil {
		t.Fatal(err)
	}
	if got := page.do("APPEND", "cart:1", ", a quince"); got != ":24" {
		t.Error(got)
	}
	if v, err := program.Get(ctx, "cart:1"); string(v) != "a pear, a plum, a quince" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := shop.Get(ctx, "cart:1").Result(); v != "a pear, a plum, a quince" || err != nil {
		t.Errorf("%q, %v", v, err)
	}

	// Outside of the scope it is the same everywhere, whether there is such a key or not.
	all, err := client.Open(ctx, cluster.Addresses(), client.WithToken(client.TokenFile(i.write(i.token(may(auth.ClusterRead), "")))))
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	there, notThere := keyAt(all, program.Owner("cart:1"), "user:", 0), keyAt(all, program.Owner("cart:1"), "user:", 1000)
	if err := all.Put(ctx, there, []byte("Ada")); err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, key := range []string{there, notThere} {
		_, err := program.Get(ctx, key)
		var refused *client.ServerError
		if !errors.Is(err, client.ErrForbidden) || !errors.As(err, &refused) {
			t.Fatalf("the program: %v", err)
		}
		for _, text := range []string{"NOPERM " + refused.Message, shop.Get(ctx, key).Err().Error(), strings.TrimPrefix(page.do("GET", key), "-")} {
			said = append(said, strings.ReplaceAll(text, key, "KEY"))
		}
	}
	if slices.Sort(said); len(slices.Compact(said)) != 1 || !strings.HasPrefix(said[0], "NOPERM ") {
		t.Errorf("refused with %q", said)
	}
	if n, err := all.Count(ctx); n != 2 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
	if _, err := program.Count(ctx); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("to count the keys of others: %v", err)
	}
	var seen []string
	for e, err := range program.Scan(ctx, client.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, e.Key)
	}
	if !slices.Equal(seen, []string{"cart:1"}) {
		t.Errorf("a scan shows %q", seen)
	}
	if strings.Contains(g.logs.String(), token) {
		t.Error("the token is in the log")
	}
}

// write puts a token into a file.
func (i *issuer) write(token string) string {
	i.t.Helper()
	file := filepath.Join(i.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		i.t.Fatal(err)
	}
	return file
}

// keyAt is a key that a node owns.
func keyAt(db *client.Client, node, prefix string, from int) string {
	for i := from; ; i++ {
		if key := prefix + strconv.Itoa(i); db.Owner(key) == node {
			return key
		}
	}
}
