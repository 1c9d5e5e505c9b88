module credrotator/e2e/ext_proc

go 1.26

tool (
	github.com/envoyproxy/ai-gateway/cmd/controller
	github.com/envoyproxy/ai-gateway/cmd/extproc
)

require github.com/envoyproxy/ai-gateway v1.0.0
