package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/quoitdb/quoit/internal/cluster"
	"github.com/quoitdb/quoit/internal/freeport"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

// bucketURL names the cluster's bucket. The folder may have any name: what means
// something in a URL is escaped.
func (o *Options) bucketURL() string {
	dir, err := filepath.Abs(filepath.Join(o.Dir, "bucket"))
	if err != nil {
		dir = filepath.Join(o.Dir, "bucket") // bucket.Open then says what is wrong
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
}

// nodeAddresses are those of the nodes that the folder has, and of as many new ones
// as are wanted.
func (o *Options) nodeAddresses(ctx context.Context) ([]string, error) {
	members, err := o.members(ctx)
	if err != nil {
		return nil, err
	}
	var own []string
	for _, address := range members {
		switch here, err := o.has(address); {
		case err != nil:
			return nil, err
		case here:
			own = append(own, address)
		case !answers(ctx, address):
			return nil, fmt.Errorf("the cluster in %s has a node %s, and its data folder %s is not there: put it back, or, "+
				"if that node runs elsewhere, start it first", o.Dir, address, o.nodeDir(address))
		}
	}
	if len(own) == 0 && o.Nodes < 1 {
		return nil, fmt.Errorf("%d nodes: a cluster needs at least one", o.Nodes)
	}
	return o.withNew(own, members), nil
}

// withNew adds addresses of new nodes, none of them taken, until there are enough.
func (o *Options) withNew(own, taken []string) []string {
	all := slices.Clone(own)
	for port := o.Port + 1; len(all) < o.Nodes; port++ {
		if o.Port < 0 {
			all = append(all, loopback(0))
		} else if address := loopback(port); !slices.Contains(taken, address) {
			all = append(all, address)
		}
	}
	return all
}

// members returns the addresses in the folder's cluster document, if there is one.
func (o *Options) members(ctx context.Context) (addresses []string, err error) {
	b, err := bucket.Open(ctx, o.bucketURL())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	d, _, err := cluster.NewStore(b, cluster.StoreOptions{}).Load(ctx)
	if errors.Is(err, cluster.ErrNoDocument) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the cluster in %s: %w", o.Dir, err)
	}
	for _, n := range d.Nodes {
		addresses = append(addresses, n.Address)
	}
	return addresses, nil
}

// has says whether the folder holds the data of a node. A member without it is one
// that was started elsewhere, or one whose data is lost: nothing must be started in
// its place.
func (o *Options) has(address string) (bool, error) {
	_, err := os.Stat(o.nodeDir(address))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// answers says whether somebody listens at an address.
func answers(ctx context.Context, address string) bool {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// freeOr is the address with a port, or a free one where the port is negative.
func freeOr(port int) (string, error) {
	if port < 0 {
		return freeport.Address()
	}
	return loopback(port), nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
