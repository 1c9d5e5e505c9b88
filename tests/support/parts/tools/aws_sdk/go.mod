module credrotator/e2e/aws_sdk

go 1.26.0

require github.com/aws/aws-sdk-go-v2/config v1.33.9
