#!/bin/bash -l
{{directives}}

{{setup}}
{{run}}
