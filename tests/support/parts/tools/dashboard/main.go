// Holds a dashboard against Grafana's own definition of one: every member known, none missing, of the right type.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile(os.Args[1])
	check(err)
	found := dashboard.Dashboard{}
	check(found.UnmarshalJSONStrict(text))
	check(found.Validate())
}

// NOTE: where nothing is wrong, the SDK's error is a list without members, and not nil.
func check(err error) {
	if err != nil && err.Error() != "" {
		fmt.Println(err)
		os.Exit(1)
	}
}
