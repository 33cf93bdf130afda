#!/bin/bash
{{directives}}

{{setup}}
{{run}}
