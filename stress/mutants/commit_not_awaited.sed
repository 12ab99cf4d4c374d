# no acknowledged job is lost
s/only_claims && async_claim &&/async_claim \&\&/
s/XactLastRecEnd == last_record &&/true \&\&/
