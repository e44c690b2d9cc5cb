package node

import (
	"strings"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Place is a point on Earth in degrees.
type Place struct{ Latitude, Longitude float64 }

// places are the region names that need no coordinates: the data-centre metropolis usually meant by each.
var places = map[string]Place{
	"us-east":      {39.04, -77.49},  // Ashburn
	"us-west":      {37.37, -121.92}, // San José
	"us-central":   {41.26, -95.86},  // Council Bluffs
	"ca-east":      {45.50, -73.57},  // Montréal
	"sa-east":      {-23.55, -46.63}, // São Paulo
	"eu-west":      {53.35, -6.26},   // Dublin
	"eu-central":   {50.11, 8.68},    // Frankfurt
	"eu-north":     {59.33, 18.07},   // Stockholm
	"eu-south":     {45.46, 9.19},    // Milan
	"uk-south":     {51.51, -0.13},   // London
	"me-central":   {25.20, 55.27},   // Dubai
	"me-south":     {26.07, 50.55},   // Bahrain
	"af-south":     {-33.92, 18.42},  // Cape Town
	"ap-south":     {19.08, 72.88},   // Mumbai
	"ap-southeast": {1.35, 103.82},   // Singapore
	"ap-northeast": {35.68, 139.69},  // Tokyo
	"ap-east":      {22.32, 114.17},  // Hong Kong
	"au-southeast": {-33.87, 151.21}, // Sydney
}

// PlaceOfRegion returns where a region of a well-known name is. A numeric suffix does not matter: us-east-1 is us-east.
func PlaceOfRegion(r mesh.Region) (Place, bool) {
	name := strings.TrimRight(string(r), "0123456789")
	p, ok := places[strings.TrimSuffix(name, "-")]
	return p, ok
}
