package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quoitdb/quoit/client"
)

// The examples run against a cluster of three nodes inside the test. Against a
// real one there is nothing but the addresses: client.Open(ctx, seeds).
func open(ctx context.Context) (db *client.Client, done func()) {
	cluster := client.NewFakeCluster(3)
	db, err := client.Open(ctx, []string{"n1:7401"}, client.WithDialer(cluster.Dial))
	if err != nil {
		panic(err)
	}
	return db, func() {
		db.Close()
		cluster.Close()
	}
}

func Example() {
	ctx := context.Background()
	db, done := open(ctx) // client.Open(ctx, []string{"127.0.0.1:7401"})
	defer done()

	err := db.Put(ctx, "user:1", []byte("Ada"), client.WithTTL(time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}
	value, err := db.Get(ctx, "user:1")
	fmt.Printf("%s %v\n", value, err)
	_, err = db.Get(ctx, "user:2")
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output:
	// Ada <nil>
	// true
}

// Change a value only if nobody else has changed it in between.
func ExampleClient_CompareAndPut() {
	ctx := context.Background()
	db, done := open(ctx)
	defer done()
	db.Put(ctx, "cart:7", []byte("apples"))

	for {
		cart, version, err := db.GetVersion(ctx, "cart:7")
		if err != nil {
			fmt.Println(err)
			return
		}
		cart = append(cart, " and pears"...)
		_, err = db.CompareAndPut(ctx, "cart:7", cart, version)
		var lost *client.VersionError
		if errors.As(err, &lost) {
			continue // somebody was faster: look again
		}
		fmt.Printf("%s %v\n", cart, err)
		return
	}
	// Output: apples and pears <nil>
}

func ExampleClient_MGet() {
	ctx := context.Background()
	db, done := open(ctx)
	defer done()
	_, err := db.MPut(ctx, []client.Pair{{Key: "a", Value: []byte("1")}, {Key: "c", Value: []byte("3")}})
	if err != nil {
		fmt.Println(err)
	}

	results, err := db.MGet(ctx, "a", "b", "c")
	for i, key := range []string{"a", "b", "c"} {
		if errors.Is(results[i].Err, client.ErrNotFound) {
			fmt.Println(key, "is not there")
			continue
		}
		fmt.Printf("%s is %s\n", key, results[i].Value)
	}
	fmt.Println(err)
	// Output:
	// a is 1
	// b is not there
	// c is 3
	// <nil>
}

func ExampleClient_Scan() {
	ctx := context.Background()
	db, done := open(ctx)
	defer done()
	for _, key := range []string{"cart:1", "cart:2", "user:1"} {
		db.Put(ctx, key, []byte("value of "+key))
	}

	for entry, err := range db.Scan(ctx, client.ScanOptions{Prefix: "cart:", Values: true}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s = %s\n", entry.Key, entry.Value)
	}
	// Unordered output:
	// cart:1 = value of cart:1
	// cart:2 = value of cart:2
}

// A cache that is always up to date: what is there, and then whatever changes.
func ExampleClient_Watch() {
	ctx := context.Background()
	db, done := open(ctx)
	defer done()
	db.Put(ctx, "flag:dark", []byte("on"))

	flags := make(map[string]string)
	for change, err := range db.Watch(ctx, "flag:", client.WatchOptions{State: true}) {
		if err != nil {
			fmt.Println(err) // ctx has ended, or the cluster refuses
			return
		}
		switch change.Kind {
		case client.ChangePut:
			flags[change.Key] = string(change.Value)
		case client.ChangeDelete:
			delete(flags, change.Key)
		case client.ChangeSynced: // flags is complete from here on
			fmt.Println(flags)
			db.Put(ctx, "flag:beta", []byte("off")) // somebody else, perhaps
			continue
		}
		if len(flags) == 2 {
			break
		}
	}
	fmt.Println(flags)
	// Output:
	// map[flag:dark:on]
	// map[flag:beta:off flag:dark:on]
}

func ExampleClient_Increment() {
	ctx := context.Background()
	db, done := open(ctx)
	defer done()

	visits, err := db.Increment(ctx, "visits", 1)
	if errors.Is(err, client.ErrOutcomeUnknown) {
		fmt.Println("counted once or not at all: only you know whether to try again")
	}
	fmt.Println(visits, err)
	// Output: 1 <nil>
}

// A lock that goes away by itself when its holder does.
func ExampleIfAbsent() {
	ctx := context.Background()
	db, done := open(ctx)
	defer done()

	for _, who := range []string{"ada", "charles"} {
		err := db.Put(ctx, "lock", []byte(who), client.IfAbsent(), client.WithTTL(30*time.Second))
		fmt.Println(who, "is too late:", errors.Is(err, client.ErrExists))
	}
	// Output:
	// ada is too late: false
	// charles is too late: true
}
