#pragma once

double step_elsewhere();
