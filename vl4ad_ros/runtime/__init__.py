"""What a vehicle carries: bundles, prompt sets, engines and the detector, without torch and without ROS."""
