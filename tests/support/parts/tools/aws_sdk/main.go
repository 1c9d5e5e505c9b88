// Prints the access key that AWS's SDK for Go signs with, once for each line that it reads.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// As long before an expiry as the SDKs for other languages, it asks for another credential; by itself it would wait.
const window = 10 * time.Minute

func main() {
	ctx := context.Background()
	loaded, err := config.LoadDefaultConfig(ctx, config.WithCredentialsCacheOptions(
		func(options *aws.CredentialsCacheOptions) { options.ExpiryWindow = window },
	))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	asked := bufio.NewScanner(os.Stdin)
	for asked.Scan() {
		credentials, err := loaded.Credentials.Retrieve(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(credentials.AccessKeyID)
	}
}
