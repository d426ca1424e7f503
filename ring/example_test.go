package ring_test

import (
	"fmt"

	"github.com/quoitdb/quoit/ring"
)

func Example() {
	topology, err := ring.ParseTopology([]byte(`quoit-topology 1
cluster demo
epoch 7
node 10.0.0.1:7401 128
node 10.0.0.2:7401 128
node 10.0.0.3:7401 128
end
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	owners, err := topology.Map()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, key := range []string{"user:1", "user:2", "user:3"} {
		position := ring.PositionOfString(key)
		fmt.Println(key, "at", position, "belongs to", owners.Owner(position))
	}
	// Output:
	// user:1 at 3182550288 belongs to 10.0.0.1:7401
	// user:2 at 4223113410 belongs to 10.0.0.1:7401
	// user:3 at 4272199785 belongs to 10.0.0.2:7401
}

func ExamplePlan() {
	before, err := ring.NewMap([]ring.Node{{Address: "10.0.0.1:7401", Tokens: 2}, {Address: "10.0.0.2:7401", Tokens: 2}})
	if err != nil {
		fmt.Println(err)
		return
	}
	after, err := ring.NewMap([]ring.Node{
		{Address: "10.0.0.1:7401", Tokens: 2}, {Address: "10.0.0.2:7401", Tokens: 2}, {Address: "10.0.0.3:7401", Tokens: 2},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, move := range ring.Plan(before, after) {
		fmt.Println(move)
	}
	// Output:
	// (3417756833, 3766385077] 10.0.0.1:7401 -> 10.0.0.3:7401
}

func ExampleSplit() {
	for _, part := range ring.Split(ring.Range{Start: 4294967295, End: 2147483647}, 1<<30) {
		fmt.Println(part, part.Size())
	}
	// Output:
	// (4294967295, 1073741823] 1073741824
	// (1073741823, 2147483647] 1073741824
}
