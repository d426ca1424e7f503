package table_test

import (
	"fmt"
	"math"

	"github.com/quoitdb/quoit/node/engine/table"
	"github.com/quoitdb/quoit/ring"
)

func Example() {
	slabs := table.NewSlabs()
	defer func() { _ = slabs.Close() }()
	t := table.New(slabs, 0, math.MaxUint32)
	defer t.Release()

	for _, key := range []string{"apple", "pear", "plum"} {
		t.Put(ring.PositionOfString(key), []byte(key), []byte("a fruit"), 1, 0)
	}
	t.Ascend(0, func(pos ring.Position, e table.Entry) bool {
		fmt.Printf("%10d %s\n", pos, e.Key)
		return true
	})
	// Output:
	//  523792574 apple
	// 1040457783 plum
	// 2291391510 pear
}
