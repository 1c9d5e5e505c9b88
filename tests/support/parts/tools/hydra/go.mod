module credrotator/e2e/hydra

go 1.26

tool github.com/ory/hydra/v2

require github.com/ory/hydra/v2 v2.3.0

// The fork that Hydra itself is built with: a replacement holds only in the module that is built.
replace github.com/gobuffalo/pop/v6 => github.com/ory/pop/v6 v6.2.1-0.20241121111754-e5dfc0f3344b
